"""Measurements as JSON lines: appended as they come, found again by key."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jnd_jax.errors import JndError
from jnd_jax.files import find
from jnd_jax.images import READ_SUFFIXES, read_rgb

# Stands for an infinite PSNR, so that means stay finite.
CEILING = 100.0


@dataclass(frozen=True)
class TestImage:
    """Attributes:
    name: file name without extension.
    path: file.
    digest: 16 hex digits of its pixels.
    """

    __test__ = False

    name: str
    path: Path
    digest: str


def find_images(folder: Path, limit: int | None = None) -> list[TestImage]:
    """The images below `folder`, in order of path.

    Raises:
        JndError: the folder holds none.
    """
    paths = find(folder, READ_SUFFIXES)[:limit]
    if not paths:
        raise JndError(f"Put at least one image into {folder}, of the suffixes {', '.join(READ_SUFFIXES)}")
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise JndError(f"Give the images in {folder} different names, apart from their extensions")
    images = []
    for path in paths:
        try:
            pixels = read_rgb(path)
        except JndError as error:
            raise JndError(f"{path}: {error}") from error
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
        images.append(TestImage(path.stem, path, digest))
    return images


def finite(value: float) -> float:
    """`value`, an infinite one as `CEILING`."""
    return CEILING if math.isinf(value) else float(value)


KEYS: dict[str, tuple[str, ...]] = {
    "codec": ("codec", "version"),
    "run": (),
    "point": ("codec", "version", "digest", "quality"),
    "view": ("codec", "version", "digest", "budget"),
}


class Results:
    """A JSON-lines file of records, one writer at a time.

    Records have a "kind": "codec" (what tables say of it), "run" (what the last run compared), "point" (one file and
    its metrics) or "view" (one file of the viewer). A later record replaces one with
    the same key, but points of one key keep each other's metrics: a later run may add some. Other kinds are passed over.
    """

    def __init__(self, path: Path):
        """Reads what is there; an incomplete last line (a killed run) is cut off."""
        self._path = path
        self._lock = threading.Lock()
        self._records: dict[tuple, dict[str, Any]] = {}
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                path.write_bytes(whole)
            for number, line in enumerate(whole.splitlines(), 1):
                try:
                    self._merge(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise JndError(f"Line {number} of {path} is no result: repair or delete the file") from error

    def _merge(self, record: dict[str, Any]) -> None:
        if record["kind"] not in KEYS:
            return
        key = (record["kind"], *(record[field] for field in KEYS[record["kind"]]))
        known = self._records.get(key)
        if known is not None and record["kind"] == "point":
            record = {**record, "metrics": {**known["metrics"], **record["metrics"]}}
        self._records[key] = record

    def get(self, kind: str, *key: Any) -> dict[str, Any] | None:
        """The record with these values of `KEYS[kind]`, or None."""
        return self._records.get((kind, *key))

    def need(self, kind: str, *key: Any) -> dict[str, Any]:
        """As `get`; JndError where there is none."""
        record = self.get(kind, *key)
        if record is None:
            raise JndError(
                f"These results lack the record {' '.join(map(str, (kind, *key)))}: run `jnd-jax eval` again."
            )
        return record

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record in memory and in the file, at once, unless it is there already."""
        with self._lock:
            if self.get(record["kind"], *(record[field] for field in KEYS[record["kind"]])) == record:
                return
            self._merge(record)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")

    def codecs(self) -> set[str]:
        """The names of all that was measured."""
        return {record["codec"] for record in self._records.values() if record["kind"] != "run"}

    def by_image(self, codec: str, version: str) -> dict[str, list[dict[str, Any]]]:
        """The points of one version of a codec, by the images' digests."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self._records.values():
            if (record["kind"], record.get("codec"), record.get("version")) == ("point", codec, version):
                found.setdefault(record["digest"], []).append(record)
        return found

    def latest(self, kind: str, codec: str) -> list[dict[str, Any]]:
        """All records of a kind and codec name, of the version that the last run compared, else of the newest one."""
        found = [record for record in self._records.values() if record["kind"] == kind and record.get("codec") == codec]
        compared = dict((self.get("run") or {"codecs": []})["codecs"])
        version = compared.get(codec) or (found[-1]["version"] if found else None)
        return [record for record in found if record["version"] == version]
