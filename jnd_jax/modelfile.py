"""One safetensors file a model: configuration, parameters, coding tables and card, read by NumPy alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from jnd_jax import files, zoo
from jnd_jax.errors import JndError

SUFFIX = ".safetensors"
FORMAT = "1"
_KINDS = "fiub"


@dataclass(frozen=True)
class ModelFile:
    """A model as it was saved.

    Attributes:
        name: what the model is called.
        config: what `jnd_jax.codec.build` needs.
        params: nested dicts of arrays; those stored as float16 are float32 again.
        tables: arrays of the coding path by name.
        card: where the model comes from and what it reaches.
        hash: 16 hexadecimal digits, see `model_hash`.
    """

    name: str
    config: dict[str, Any]
    params: dict[str, Any]
    tables: dict[str, np.ndarray]
    card: dict[str, Any]
    hash: str

    @property
    def is_lapped(self) -> bool:
        """Whether it is this package's own lapped codec: exports, previews and the browser know its transforms alone."""
        return self.config.get("name") == "lapped"


def _flatten(params: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    flat = {}
    for name, value in params.items():
        if not name or "/" in name:
            raise JndError(f"Rename {prefix}{name!r}: a name must neither be empty nor contain a slash.")
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = np.array(value, order="C")
    return flat


def _nest(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return nested


def _widen(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    halves = {
        name: value.astype(np.float32)
        for name, value in tensors.items()
        if name.startswith("params/") and value.dtype == np.float16
    }
    return {**tensors, **halves}


def _hash(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype.name} {value.shape}\n".encode())
        digest.update(value.astype(value.dtype.newbyteorder("<"), order="C", copy=False).tobytes())
    return digest.hexdigest()[:16]


def model_hash(config: Mapping[str, Any], params: Mapping[str, Any], tables: Mapping[str, np.ndarray]) -> str:
    """First 8 bytes, in hexadecimal, of the SHA-256 over what decides a model's output: config and arrays.

    Neither the file's layout nor name nor card count, and float16 parameters count as the float32 they are
    computed with.
    """
    return _hash(config, _widen(_flatten(params, "params/") | _flatten(tables, "tables/")))


def _check_tensors(tensors: Mapping[str, np.ndarray]) -> None:
    for name, value in tensors.items():
        if value.dtype.kind not in _KINDS or value.dtype.name == "bfloat16":
            raise JndError(f"Store {name} as floats or integers: {value.dtype} is neither.")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise JndError(
                f"{name} has values that are not finite (in {value.dtype}): train or convert the model again."
            )


def save(
    path: str | Path,
    *,
    name: str,
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    tables: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    half: bool = False,
    keep: Collection[str] = (),
) -> str:
    """Writes a model file, all of it or nothing, and returns the model's hash.

    Args:
        path: the file.
        name: what the model is called.
        config: JSON-compatible.
        params: nested dicts of arrays.
        tables: arrays by name.
        card: JSON-compatible.
        half: store float32 parameters as float16.
        keep: beginnings of the parameters' names (path joined by /) that `half` leaves alone.

    Raises:
        JndError: an array is neither float nor integer, or not finite (in float16, with `half`).
    """
    # A lazily loaded config (tuples, ConfigDict) hashes as what a reader will see.
    config = json.loads(json.dumps(config))
    tensors = _flatten(params, "params/")
    if half:
        kept = tuple(f"params/{beginning}" for beginning in keep)
        with np.errstate(over="ignore"):
            tensors |= {
                key: value.astype(np.float16)
                for key, value in tensors.items()
                if value.dtype == np.float32 and not key.startswith(kept)
            }
    tensors |= _flatten(tables, "tables/")
    _check_tensors(tensors)
    digest = _hash(config, _widen(tensors))
    metadata = {
        "format": FORMAT,
        "name": name,
        "config": json.dumps(config),
        "card": json.dumps(card),
        "hash": digest,
    }
    files.write_bytes(path, serialise(tensors, metadata))
    return digest


def _metadata(path: Path, file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if not {"format", "name", "config", "card", "hash"} <= set(metadata):
        raise JndError(f"{path} is a safetensors file, but not a model of jnd_jax: give one that train.py has written.")
    if metadata["format"] != FORMAT:
        raise JndError(f"{path} is of the newer model format {metadata['format']}: update jnd_jax.")
    try:
        config, card = json.loads(metadata["config"]), json.loads(metadata["card"])
    except ValueError as error:
        raise JndError(f"{path} is damaged ({error}): copy or download it again.") from error
    return {"name": metadata["name"], "config": config, "card": card, "hash": metadata["hash"]}


def _open(path: Path) -> Any:
    if not path.is_file():
        raise JndError(f"There is no model file {path}: check the path, or see the names in `jnd-jax models`.")
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise JndError(f"{path} is no model file, or damaged ({error}): copy or download it again.") from error


def describe(path: str | Path) -> dict[str, Any]:
    """A model file's name, config, card, hash, size in bytes and number of parameters; reads no arrays.

    Raises:
        JndError: see `load`.
    """
    path = Path(path)
    with _open(path) as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if key.startswith("params/")]
        return {
            **_metadata(path, file),
            "bytes": path.stat().st_size,
            "parameters": sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes),
        }


def load(path: str | Path) -> ModelFile:
    """Reads a model file and checks it against its hash.

    Raises:
        JndError: no such file, not a model file, of a newer format, or damaged.
    """
    path = Path(path)
    with _open(path) as file:
        metadata = _metadata(path, file)
        try:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, TypeError, KeyError) as error:
            raise JndError(f"{path} has an array NumPy cannot read ({error}): convert it to float32.") from error
    foreign = [key for key in tensors if not key.startswith(("params/", "tables/"))]
    if foreign:
        raise JndError(
            f"{path} holds {foreign[0]!r}, which is no part of a model: give a file that train.py has written."
        )
    tensors = _widen(tensors)
    if _hash(metadata["config"], tensors) != metadata["hash"]:
        raise JndError(f"{path} is damaged (its contents do not match its hash): copy or download it again.")
    _check_tensors(tensors)
    parts = {
        part: {key.removeprefix(part): value for key, value in tensors.items() if key.startswith(part)}
        for part in ("params/", "tables/")
    }
    return ModelFile(params=_nest(parts["params/"]), tables=parts["tables/"], **metadata)


def find(name_or_path: str | Path) -> Path:
    """The model file that a name of the zoo or a path means; a name goes before a file of that name.

    Raises:
        JndError: neither a shipped model's name nor a file.
    """
    if not isinstance(name_or_path, str | Path):
        raise JndError(f"A model must be a name or a path, not {type(name_or_path).__name__}.")
    known = zoo.models()
    name = zoo.resolve(str(name_or_path), known)
    if name is not None:
        return known[name]
    path = Path(name_or_path)
    if not path.is_file():
        raise JndError(
            f"There is no model {str(name_or_path)!r}: give the path of a model file or one of "
            f"the names {', '.join(known) or '(none is installed)'}."
        )
    return path


def find_by_hash(digest: str) -> Path:
    """The shipped model with this hash.

    Raises:
        JndError: no shipped model has it.
    """
    for path in zoo.models().values():
        if describe(path)["hash"] == digest:
            return path
    raise JndError(
        f"The model {digest} that wrote this file is not installed: name its model file with --model, or update jnd_jax."
    )
