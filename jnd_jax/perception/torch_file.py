"""Weights out of files that torch.save wrote, without torch."""

from __future__ import annotations

import collections
import functools
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax.errors import JndError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
}


class _Storage:
    """The flat array that tensors are views of; filled in after unpickling in the older format."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype, self.size = dtype, size
        self.array = np.empty(0, dtype)


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def numpy(self) -> np.ndarray:
        flat = self.storage.array[self.offset :]
        strides = tuple(s * flat.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Unpickles dicts of tensors and plain values; refuses every other class, so that a file cannot run code."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _DTYPES:
            return functools.partial(_Storage, _DTYPES[name])
        raise JndError(f"give a file that holds a dict of plain tensors: this one needs {module}.{name}")

    def persistent_load(self, ident: tuple) -> _Storage:
        _, kind, key, _, size = ident[:5]
        return self.storages.setdefault(key, kind(size))


def _read_zip(file: Any) -> Any:
    with zipfile.ZipFile(file) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        unpickler = _Unpickler(io.BytesIO(archive.read(root + "data.pkl")))
        content = unpickler.load()
        for key, storage in unpickler.storages.items():
            storage.array = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype)
    return content


def _read_legacy(file: Any) -> Any:
    if _Unpickler(file).load() != _MAGIC:
        raise JndError("give a file that torch.save wrote")
    for _ in ("protocol version", "system"):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    content = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        data = file.read(size * storage.dtype.itemsize)
        if size != storage.size or len(data) != size * storage.dtype.itemsize:
            raise JndError("get the weight file again: it is cut short")
        storage.array = np.frombuffer(data, storage.dtype)
    return content


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Name -> array of a state dict in torch's zip format or the older one (pickles followed by raw storages).

    A dict under the key "state_dict" is taken in place of the whole.

    Raises:
        JndError: no such file, not a file of torch.save, or one with anything but tensors and plain values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise JndError(f"there is no weight file {path}")
    with open(path, "rb") as file:
        try:
            content = _read_zip(file) if zipfile.is_zipfile(file) else (file.seek(0), _read_legacy(file))[1]
        except (pickle.UnpicklingError, EOFError, struct.error, StopIteration, KeyError, UnicodeDecodeError) as error:
            raise JndError(f"{path} is no file that torch.save wrote, or is cut short") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise JndError(f"{path} holds no dict of tensors")
    return {name: value.numpy() for name, value in content.items() if isinstance(value, _Tensor)}
