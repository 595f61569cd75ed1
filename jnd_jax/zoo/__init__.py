"""The models that come with the package. A shipped model never changes; a better one gets the next number."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

DEFAULT = "jnd-perceptual"
FOLDER = Path(__file__).parent


def _key(name: str) -> tuple[str, int]:
    family, dash, number = name.rpartition("-")
    return (family, int(number)) if dash and number.isdecimal() else (name, 0)


def models(folder: Path = FOLDER) -> dict[str, Path]:
    """Model files by name, those of one family in the order of their numbers."""
    files = sorted(folder.glob("*.safetensors"), key=lambda path: _key(path.stem))
    return {path.stem: path for path in files}


def resolve(name: str, known: Collection[str]) -> str | None:
    """The model that `name` means among `known`: itself, or the newest `name`-N; None if there is neither."""
    if name in known:
        return name
    family = [other for other in known if re.fullmatch(re.escape(name) + r"-\d+", other)]
    return max(family, key=_key, default=None)
