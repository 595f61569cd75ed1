"""A stand-in that speaks TensorFlow Serving's protocols, REST and gRPC, for a tree of exports.

It has TensorFlow Serving's own messages, and does with a model what the server does: it loads the graph tagged "serve" into
a session, replays the warm-up requests of the export, and runs the tensors that a signature names.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from jnd_jax.serving import warmup


class Version:
    """A SavedModel in a session, as the server loads it, with its warm-up requests answered."""

    def __init__(self, folder: Path):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(folder))
        self.signatures = dict(loaded.signature_def)
        for record in tf.data.TFRecordDataset(str(folder / warmup.FILE)):
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            self.predict(request.model_spec.signature_name, request.inputs)

    def predict(self, signature: str, inputs: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
        """Outputs by name; the server too refuses inputs that the signature does not have, or lacks."""
        definition = self.signatures[signature or "serving_default"]
        assert inputs.keys() == definition.inputs.keys()
        feeds = {definition.inputs[name].name: tf.make_ndarray(value) for name, value in inputs.items()}
        return self.session.run({name: info.name for name, info in definition.outputs.items()}, feeds)

    def tensor(self, signature: str, name: str, value: object) -> tensor_pb2.TensorProto:
        """An input of REST as the signature's type."""
        return tf.make_tensor_proto(value, self.signatures[signature].inputs[name].dtype)


class Models:
    """The versions that models.config names, by label."""

    def __init__(self, tree: Path):
        text = (tree / "models.config").read_text()
        (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
        assert config.base_path == f"/models/{config.name}"
        assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)
        self.by_label = {
            label: Version(tree / config.name / str(version)) for label, version in config.version_labels.items()
        }


@contextlib.contextmanager
def serving(tree: Path) -> Iterator[tuple[str, str]]:
    """URL of REST and address of gRPC."""
    models = Models(tree)

    class Rest(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            label = re.fullmatch(r"/v1/models/jnd/labels/(\w+):predict", self.path)[1]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model, signature = models.by_label[label], body["signature_name"]
            inputs = {name: model.tensor(signature, name, value) for name, value in body["inputs"].items()}
            out = model.predict(signature, inputs)
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
            model, answer = models.by_label[request.model_spec.version_label], predict_pb2.PredictResponse()
            for name, value in model.predict(request.model_spec.signature_name, request.inputs).items():
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
