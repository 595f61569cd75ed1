"""A client that decodes .jnd files with a stock TensorFlow Serving: range coding here, the network there.

    pip install 'jnd-jax[tf]'
    python examples/tf_serving_client.py photo.jnd -o photo.png --rest http://localhost:8501
    python examples/tf_serving_client.py photo.jnd -o photo.png --grpc localhost:8500

The server serves what `jnd-jax export MODEL -o serving/ --tree --plain` writes. This client refuses files with a quality by
region or a bound on their errors, and grey or deep images: decode these with `jnd-jax decode`.
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.request
from pathlib import Path

import numpy as np

from jnd_jax import bitstream, modelfile
from jnd_jax.codec import coding
from jnd_jax.codec.linear import FOOTPRINT
from jnd_jax.errors import JndError


def latents(data: bytes, model: modelfile.ModelFile) -> dict[str, np.ndarray]:
    """Inputs of the signature `synthesize_image` for a file: a batch of one."""
    header, chunks = bitstream.unpack(data)
    if header.model != model.hash:
        raise JndError(f"This file was made with model {header.model}, not {model.hash}: give that one.")
    if {"regions", "residual"} & chunks.keys() or header.grey or header.bit_depth > 8:
        raise JndError("This file is more than a colour image of 8 bits at one quality: decode it with jnd-jax.")
    coder = coding.latent_coder(model.params, model.tables)
    h, w = (-(-side // FOOTPRINT) for side in (header.height, header.width))
    z = coder.decode_z(chunks["z"], h, w, header.quality, header.coder)
    symbols = coder.decode_y(chunks["y"], z, header.quality, header.coder).symbols
    sides = {"quality": header.quality, "height": header.height, "width": header.width}
    scalars = {name: np.array([value], np.int32) for name, value in sides.items()}
    return {"symbols": symbols[None].astype(np.int16), "z": z[None].astype(np.int8), **scalars}


def rest(url: str, label: str, inputs: dict[str, np.ndarray]) -> bytes:
    """The decoded image as a file, from the server at `url`; `label` is the model's hash."""
    body = {"signature_name": "synthesize_image", "inputs": {name: value.tolist() for name, value in inputs.items()}}
    data = json.dumps(body, separators=(",", ":")).encode()
    request = urllib.request.Request(f"{url}/v1/models/jnd/labels/{label}:predict", data)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return base64.b64decode(json.load(answer)["outputs"][0]["b64"])


def grpc(address: str, label: str, inputs: dict[str, np.ndarray]) -> bytes:
    """As `rest`, over gRPC."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "jnd", label
    request.model_spec.signature_name = "synthesize_image"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    # A client receives 4 MiB at most unless told otherwise; TensorFlow Serving receives 2 GiB.
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", 1 << 28)]) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return answer.outputs["image_bytes"].string_val[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", help="model file, if it is not one that comes with the package")
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--rest", metavar="URL")
    server.add_argument("--grpc", metavar="HOST:PORT")
    args = parser.parse_args()
    data = args.file.read_bytes()
    label = bitstream.unpack(data)[0].model
    model = modelfile.load(modelfile.find(args.model) if args.model else modelfile.find_by_hash(label))
    inputs = latents(data, model)
    args.output.write_bytes(rest(args.rest, label, inputs) if args.rest else grpc(args.grpc, label, inputs))


if __name__ == "__main__":
    main()
