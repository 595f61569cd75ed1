"""A model repository for TensorFlow Serving: each model is a version, labelled with the hash that its files carry.

    TREE/models.config    for --model_config_file: all versions, each with its model's hash as its label
    TREE/jnd/1, 2, ...    the exports, in the order in which they were made

A client asks for the label that a file's header names, so files of old and new models are decoded side by side.
"""

from __future__ import annotations

import json
from pathlib import Path

from jnd_jax import files
from jnd_jax.errors import JndError

REPORT = "conversion.json"  # of each export, beside its SavedModel
NAME = "jnd"
CONFIG = "models.config"
_BASE = f"/models/{NAME}"  # where the stock image of TensorFlow Serving looks


def hashes(tree: Path) -> dict[int, str]:
    """Hash of the model of each version."""
    versions = sorted(int(path.name) for path in (tree / NAME).glob("*") if path.name.isdecimal())
    return {version: json.loads((tree / NAME / str(version) / REPORT).read_text())["hash"] for version in versions}


def next_version(tree: Path, digest: str) -> Path:
    """The folder for the export of the model with the hash `digest`.

    Raises:
      JndError: the tree has this model already.
    """
    known = hashes(tree)
    for version, other in known.items():
        if other == digest:
            raise JndError(f"{tree} has this model already, as version {version}: nothing is left to export.")
    return tree / NAME / str(max(known, default=0) + 1)


def write_config(tree: Path) -> None:
    """Writes models.config for the versions that there are."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    servers = model_server_config_pb2.ModelServerConfig()
    config = servers.model_config_list.config.add(name=NAME, base_path=_BASE, model_platform="tensorflow")
    for version, digest in hashes(tree).items():
        config.model_version_policy.specific.versions.append(version)
        config.version_labels[digest] = version
    files.write_bytes(tree / CONFIG, text_format.MessageToString(servers).encode())
