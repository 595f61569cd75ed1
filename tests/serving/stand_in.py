"""A stand-in that speaks TensorFlow Serving's protocols, REST and gRPC, for a tree of exports: with TensorFlow's own loader
and TensorFlow Serving's own messages."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2


class Models:
    """The versions that models.config names, by label."""

    def __init__(self, tree: Path):
        text = (tree / "models.config").read_text()
        (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
        assert config.base_path == f"/models/{config.name}"
        assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)
        folder = tree / config.name
        self.by_label = {
            label: tf.saved_model.load(str(folder / str(version))) for label, version in config.version_labels.items()
        }

    def predict(self, label: str, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        function = self.by_label[label].signatures[signature]
        specs = function.structured_input_signature[1]
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in function(**tensors).items()}


@contextlib.contextmanager
def serving(tree: Path) -> Iterator[tuple[str, str]]:
    """URL of REST and address of gRPC."""
    models = Models(tree)

    class Rest(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            label = re.fullmatch(r"/v1/models/jnd/labels/(\w+):predict", self.path)[1]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            out = models.predict(label, body["signature_name"], body["inputs"])
            encoded = {name: _json(name, value) for name, value in out.items()}
            # One output stands for itself, as TensorFlow Serving has it.
            outputs: Any = encoded if len(encoded) > 1 else next(iter(encoded.values()))
            data = json.dumps({"outputs": outputs}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            answer = predict_pb2.PredictResponse()
            for name, value in models.predict(
                request.model_spec.version_label, request.model_spec.signature_name, inputs
            ).items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return answer

    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 1 << 28)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}", f"127.0.0.1:{port}"
    finally:
        server.stop(None)
        rest.shutdown()


def _json(name: str, value: np.ndarray) -> Any:
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(item).decode()} for item in value.tolist()]
    return value.tolist() if value.dtype != object else [item.decode() for item in value.tolist()]
