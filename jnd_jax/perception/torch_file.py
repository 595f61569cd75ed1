"""Weights out of files that torch.save wrote, without torch."""

from __future__ import annotations

import collections
import functools
import io
import math
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
        """A copy of the view; ValueError unless it lies within its storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        flat = self.storage.array
        if len(self.shape) != len(self.strides) or any(type(n) is not int or n < 0 for n in numbers) or flat is None:
            raise ValueError("a tensor with no plain shape")
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides))
        size = math.prod(self.shape)
        if size > flat.size or (size and last >= flat.size):
            raise ValueError("a tensor beyond its storage")
        strides = tuple(stride * flat.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()


class _Unpickler(pickle._Unpickler):
    """Unpickles dicts of tensors and plain values; refuses every other class, so that a file cannot run code.

    It is the one in Python: that in C allocates whatever indexes of its memo and sizes a damaged file states.
    """

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
        raise JndError(f"Give a file that holds a dict of plain tensors: this one needs {module}.{name}.")

    def persistent_load(self, ident: tuple) -> _Storage:
        _, kind, key, _, size = ident[:5]
        return self.storages.setdefault(key, kind(size))


def _read_zip(file: Any) -> Any:
    with zipfile.ZipFile(file) as archive:
        # torch stores without compression: what unpacks to more than the file is no model, but a bomb.
        if any(entry.file_size > entry.compress_size for entry in archive.infolist()):
            raise ValueError("compressed parts")
        root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        unpickler = _Unpickler(io.BytesIO(archive.read(root + "data.pkl")))
        content = unpickler.load()
        for key, storage in unpickler.storages.items():
            storage.array = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype)
    return content


def _read_legacy(file: Any) -> Any:
    if _Unpickler(file).load() != _MAGIC:
        raise JndError("Give a file that torch.save wrote.")
    for _ in ("protocol version", "system"):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    content = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        data = file.read(size * storage.dtype.itemsize)
        if size != storage.size or len(data) != size * storage.dtype.itemsize:
            raise JndError("Get the weight file again: it is cut short.")
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
        raise JndError(f"There is no weight file {path}.")
    with open(path, "rb") as file:
        try:
            content = _read_zip(file) if zipfile.is_zipfile(file) else (file.seek(0), _read_legacy(file))[1]
            content = content.get("state_dict", content) if isinstance(content, dict) else content
            if not isinstance(content, dict):
                raise JndError(f"The file {path} holds no dict of tensors: give a state dict.")
            return {name: value.numpy() for name, value in content.items() if isinstance(value, _Tensor)}
        except JndError:
            raise
        # An unpickler raises whatever it meets in a damaged file: MemoryError for a size that it cannot read.
        except Exception as error:
            raise JndError(
                f"The file {path} is no file that torch.save wrote, or is damaged ({str(error) or type(error).__name__}): "
                "download it again."
            ) from error
