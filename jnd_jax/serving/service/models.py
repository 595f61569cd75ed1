"""The models of the service, shipped ones and those of a folder, by hash and by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jnd_jax import modelfile, zoo
from jnd_jax.errors import JndError


class Known(NamedTuple):
    """A model file: its name, hash, and where it is."""

    name: str
    hash: str
    path: Path


class Models:
    """Model files by hash; `default` is the one that encodes."""

    def __init__(self, default: str, folder: Path | None = None):
        """Reads the names of all model files.

        Args:
          default: name or file of the model to encode with, see `modelfile.find`.
          folder: further model files.

        Raises:
          JndError: no such model or folder, or a file in it that is no model.
        """
        self._name, self._folder = default, folder
        self.reload()

    def reload(self) -> None:
        """Reads all model files again; if this raises JndError, nothing has changed."""
        default = _known(self._resolve())
        self._by_hash = {known.hash: known for known in map(_known, self._paths())} | {default.hash: default}
        self.default = default

    def _paths(self) -> Iterable[Path]:
        if self._folder is not None and not self._folder.is_dir():
            raise JndError(f"There is no folder {self._folder}: name one with model files (*{modelfile.SUFFIX}).")
        own = sorted(self._folder.glob(f"*{modelfile.SUFFIX}")) if self._folder else []
        return [*zoo.models().values(), *own]

    def _resolve(self) -> Path:
        own = self._folder / f"{self._name}{modelfile.SUFFIX}" if self._folder else None
        return own if own is not None and own.is_file() else modelfile.find(self._name)

    def __iter__(self):
        return iter(self._by_hash.values())

    def of_file(self, digest: str) -> Known:
        """The model with this hash; raises JndError if it is not known."""
        if digest not in self._by_hash:
            raise JndError(
                f"This file was made with model {digest}, which is not here: add its model file to the service's "
                "folder of models."
            )
        return self._by_hash[digest]

    def named(self, name: str) -> Known:
        """The model of this name (without its number: the newest) or hash; raises JndError if it is not known."""
        newest = zoo.resolve(name, [known.name for known in self])
        for known in self:
            if newest == known.name or name == known.hash:
                return known
        raise JndError(f"There is no model {name!r} here: ask for one of {', '.join(known.name for known in self)}.")


def _known(path: Path) -> Known:
    described = modelfile.describe(path)
    return Known(described["name"], described["hash"], path)
