"""Decoded photos as one uint8 memory map.

Decoding a JPEG of 1.5 megapixels for every crop starves the processor that trains, so that a folder is decoded once:
`images.u8` holds the RGB samples of all images one after the other, `index.json` their offsets, shapes and names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.files import cache_folder, find
from jnd_jax.images import READ_SUFFIXES, read_rgb

log = logging.getLogger(__name__)

FORMAT = 2
SAMPLE_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)


@dataclass(frozen=True)
class ImageSet:
    """Decoded images on disk.

    Attributes:
        names: path of each below its source folder, beginning with that folder's own name.
        roots: number of each one's source folder.
        shapes: (height, width) of each.
        offsets: where each begins in `samples`.
        samples: (bytes,) uint8, RGB.
        broken: names of the files that could not be decoded.
    """

    names: tuple[str, ...]
    roots: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    offsets: tuple[int, ...]
    samples: np.ndarray
    broken: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image `i` as a read-only (H, W, 3) uint8 view of the memory map."""
        height, width = self.shapes[i]
        start = self.offsets[i]
        return self.samples[start : start + height * width * 3].reshape(height, width, 3)

    def select(self, indices: Sequence[int]) -> ImageSet:
        """The images at `indices`, in that order; no sample is copied."""
        pick = lambda values: tuple(values[i] for i in indices)
        return ImageSet(
            pick(self.names), pick(self.roots), pick(self.shapes), pick(self.offsets), self.samples, self.broken
        )


def sample_photos() -> list[Path]:
    """The photos that the scikit-image wheel carries: the source when no folder is given."""
    folder = Path(str(resources.files("skimage") / "data"))
    return [folder / name for name in SAMPLE_PHOTOS if (folder / name).exists()]


def find_images(path: str | Path) -> list[Path]:
    """All image files below a folder, sorted; raises JndError where there is none."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise JndError(f"{root} is not a folder; give data.path a folder of images.")
    found = find(root, READ_SUFFIXES)
    if not found:
        raise JndError(f"{root} holds no image; give data.path a folder of images.")
    return found


def load_images(path: str | Path | Sequence[str | Path] | None = None, cache: str | Path | None = None) -> ImageSet:
    """The images of one or several folders, decoded once into `cache` (default ~/.cache/jnd_jax).

    The cache is keyed by each file's path, size and time of change, so that a changed source is decoded anew. Files
    that cannot be decoded are named in a warning and left out. Raises JndError where no image is left.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path or ())
    paths = [p for p in paths if str(p)]
    if paths:
        roots = [Path(p).expanduser().resolve() for p in paths]
        files = [(root, file) for root in roots for file in find_images(root)]
    else:
        files = [(file.parent, file) for file in sample_photos()]
        roots = sorted({root for root, _ in files})
    names = [(str(Path(root.name, file.relative_to(root))), roots.index(root)) for root, file in files]

    described = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for _, file in files]
    source = hashlib.sha256(json.dumps([str(root) for root in roots]).encode()).hexdigest()[:12]
    fingerprint = hashlib.sha256(json.dumps([FORMAT, described]).encode()).hexdigest()[:16]
    cache = Path(cache).expanduser() if cache else cache_folder()
    if cache is None:
        raise JndError("There is no home folder to keep decoded images in: give data.cache a folder.")
    folder = cache / f"{source}-{fingerprint}"
    if not (folder / "index.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _decode_into(folder, [file for _, file in files], names)
        for old in cache.glob(f"{source}-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    images = _open(folder)
    if images.broken:
        log.warning(
            "%d of %d files skipped, they cannot be decoded: %s",
            len(images.broken),
            len(files),
            ", ".join(images.broken),
        )
    return images


def _decode_into(folder: Path, files: Sequence[Path], names: Sequence[tuple[str, int]]) -> None:
    """Write the cache beside its final place and rename it, so that a half-written cache is never read."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    entries, broken, offset = [], [], 0
    try:
        with open(work / "images.u8", "wb") as out:
            for file, (name, root) in zip(files, names):
                try:
                    image = read_rgb(file)
                except (JndError, OSError, MemoryError) as error:
                    log.warning("cannot decode %s: %s", file, error)
                    broken.append(name)
                    continue
                out.write(image.tobytes())
                entries.append({"name": name, "root": root, "shape": image.shape[:2], "offset": offset})
                offset += image.size
        if not entries:
            raise JndError(f"None of {len(files)} files can be decoded; give data.path a folder of images.")
        (work / "index.json").write_text(json.dumps({"images": entries, "broken": broken, "bytes": offset}))
        try:
            os.rename(work, folder)
        except OSError:
            if not (folder / "index.json").exists():
                raise  # otherwise another process was first with the same content
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _open(folder: Path) -> ImageSet:
    index = json.loads((folder / "index.json").read_text())
    samples = np.memmap(folder / "images.u8", np.uint8, "r", shape=(index["bytes"],))
    entries = index["images"]
    return ImageSet(
        names=tuple(entry["name"] for entry in entries),
        roots=tuple(entry["root"] for entry in entries),
        shapes=tuple(tuple(entry["shape"]) for entry in entries),
        offsets=tuple(entry["offset"] for entry in entries),
        samples=samples,
        broken=tuple(index["broken"]),
    )


def split(images: ImageSet, every: int) -> tuple[ImageSet, ImageSet]:
    """(training, validation): each `every`-th image by sorted name validates.

    With 0 or 1, or fewer images than `every`, all of them do both.
    """
    if every <= 1 or len(images) < every:
        return images, images
    order = sorted(range(len(images)), key=lambda i: images.names[i])
    held_out = set(order[every - 1 :: every])
    return images.select([i for i in order if i not in held_out]), images.select(sorted(held_out))


def pair_by_name(reference: ImageSet, other: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Images of the same name and size in both sets, in the order of `reference` and under its names.

    The first folder of the one pairs with the first of the other, and so on, by the path below the folder without its
    suffix. (Pairing by sorted order would silently pair wrong images where one side lacks a file.)

    Raises:
        JndError: the sets come from different numbers of folders, none pairs, or two images differ in their suffix alone.
    """
    if len(set(reference.roots)) != len(set(other.roots)):
        raise JndError("data.path and data.jnd_path name different numbers of folders; give each folder its partner.")
    below = lambda name: Path(*Path(name).parts[1:]).with_suffix("")
    partners = {(root, below(name)): i for i, (root, name) in enumerate(zip(other.roots, other.names))}
    keys = [(root, below(name)) for root, name in zip(reference.roots, reference.names)]
    if len(partners) < len(other) or len(set(keys)) < len(reference):
        raise JndError("Two images of data.path or of data.jnd_path differ in their suffix alone; rename one.")
    pairs = [(i, partners[key]) for i, key in enumerate(keys) if key in partners]
    pairs = [(i, j) for i, j in pairs if reference.shapes[i] == other.shapes[j]]
    if not pairs:
        raise JndError("No two images of data.path and data.jnd_path share name and size; check the two folders.")
    if len(pairs) < len(reference):
        log.warning(
            "%d of %d images have no partner of the same name and size", len(reference) - len(pairs), len(reference)
        )
    images = reference.select([i for i, _ in pairs])
    return images, dataclasses.replace(other.select([j for _, j in pairs]), names=images.names)
