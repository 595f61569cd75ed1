"""Warm-up requests, which TensorFlow Serving replays when it loads a SavedModel, so no client waits for its first use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write(folder: Path, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes one warm-up request for each signature.

    Args:
      folder: of the SavedModel.
      requests: inputs by name, by signature.
    """
    (folder / FILE.parent).mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for signature, inputs in requests.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                kind = tf.string if name == "data" else getattr(value, "dtype", tf.int32)
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype=kind))
            writer.write(log.SerializeToString())
