"""`jnd-jax targets`: just-noticeable versions of images without a lab, in the layout that training reads.

Each image is coded by a conventional codec or a model at the lowest quality that a calibrated metric still passes:
DST/Ref/name.png and DST/JND1/name.png, and a row in DST/targets.csv.
"""

from __future__ import annotations

import argparse
import csv
import io as streams
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jnd_jax import codecs, files, images, metrics, search
from jnd_jax.data import cache
from jnd_jax.errors import JndError
from jnd_jax.metrics import levels
from jnd_jax.perception import profiles
from jnd_jax.perception.colour import LUMA

KLT = "klt"
FIELDS: tuple[str, ...] = ("name", "codec", "metric", "jnd", "quality", "value", "bytes")
# Parameters of the Weibull density of the energy that people need (Jiang et al. 2022).
_WEIBULL_SCALE, _WEIBULL_SHAPE = 0.99805, 894.16
_BLOCK = 8


@dataclass(frozen=True, eq=False)
class JndImage:
    """A just-noticeable image.

    Attributes:
        pixels: (H, W, 3) uint8.
        quality: of the codec, or the number of components that the KLT kept.
        value: of the metric.
        size: bytes of the file, None without one.
    """

    pixels: np.ndarray
    quality: float
    value: float
    size: int | None


def search_target(image: np.ndarray, codec: codecs.Codec, metric: str = "ssimulacra2", t: float = 1.0) -> JndImage:
    """The image as `codec` codes it at the lowest quality within `t` just-noticeable differences by `metric`.

    Args:
        image: (H, W, 3) uint8.
        codec: see `codecs.lookup`.
        metric: one with a JND calibration, see `jnd_jax.metrics`.
        t: just-noticeable differences.

    Raises:
        JndError: no quality passes, or the metric cannot measure this image.
    """
    goal = search.Target(metric, metrics.jnd_threshold(metric, t))
    found = search.reach(image, codec.encode, codec.decode, codec.qualities, goal, tolerance=0.0)
    return JndImage(codec.decode(found.data), found.quality, found.value, len(found.data))


def _weibull(energy: np.ndarray) -> np.ndarray:
    """Weibull density up to a factor, at `energy` > 0."""
    x = energy / _WEIBULL_SCALE
    return np.exp((_WEIBULL_SHAPE - 1) * np.log(x) - x**_WEIBULL_SHAPE)


def klt(image: np.ndarray) -> tuple[np.ndarray, int]:
    """A nearly invisible change without any codec: luma from the leading principal components of its 8x8 blocks.

    Of the components, in order of energy, the first L = ceil(sum k f(P_k) / sum f(P_k)) are kept, P_k the share of
    energy in the first k and f the Weibull density of scale .99805 and shape 894.16 (Jiang et al., "Toward Top-Down
    Just Noticeable Difference Estimation of Natural Images", IEEE TIP 31, 2022). The change of luma is added to R, G
    and B, so that chroma stays.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        The (H, W, 3) uint8 image and L.
    """
    height, width = image.shape[:2]
    luma = image @ LUMA
    luma = np.pad(luma, ((0, -height % _BLOCK), (0, -width % _BLOCK)), mode="edge")
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    blocks = luma.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK**2)
    # Not centred, as the authors' program has it: blocks that all have one mean would lose it.
    components = np.linalg.eigh(blocks.T @ blocks)[1][:, ::-1]
    coefficients = blocks @ components
    energy = np.cumsum((coefficients**2).sum(0))
    weight = _weibull(energy / energy[-1]) if energy[-1] > 0 else np.ones(1)
    kept = math.ceil((np.arange(1, len(weight) + 1) * weight).sum() / weight.sum() - 1e-9)
    change = coefficients[:, kept:] @ components[:, kept:].T
    change = change.reshape(rows, columns, _BLOCK, _BLOCK).swapaxes(1, 2).reshape(luma.shape)[:height, :width]
    return np.clip(np.rint(image - change[..., None]), 0, 255).astype(np.uint8), kept


def read_pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of an image file, upright; JndError naming the file if it is missing or cannot be read."""
    try:
        return images.read_rgb(path)
    except (JndError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise JndError(f"Copy or download {path} again, or leave it out: it cannot be read ({reason}).") from error


def write_pair(folder: Path, name: str, reference: np.ndarray, jnd: np.ndarray) -> None:
    """Writes FOLDER/Ref/NAME.png and FOLDER/JND1/NAME.png from (H, W, 3) uint8 images of one size."""
    if reference.shape != jnd.shape:
        raise JndError(
            f"Leave {name} out: its just-noticeable image is {jnd.shape[1]}x{jnd.shape[0]}, the original "
            f"{reference.shape[1]}x{reference.shape[0]}."
        )
    for part, pixels in (("Ref", reference), ("JND1", jnd)):
        images.write_image(folder / part / f"{name}.png", images.Picture(pixels))


class Table:
    """DST/targets.csv, a row for each finished pair: written whole after each, so that it can be resumed."""

    def __init__(self, path: Path, codec: str, metric: str, jnd: float):
        """Reads what is there; JndError if it was made in another way, which would mix two kinds of targets."""
        self._path, self._common = path, {"codec": codec, "metric": metric, "jnd": f"{jnd:g}"}
        self.rows: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        if path.exists():
            try:
                text = path.read_bytes().decode()
            except UnicodeError as error:
                raise JndError(f"Give another folder, or repair {path}: it is not in UTF-8.") from error
            reader = csv.DictReader(streams.StringIO(text, newline=""))
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise JndError(f"Give another folder, or repair {path}: its columns are not {','.join(FIELDS)}.")
            self.rows = {row["name"]: row for row in reader}
        for row in self.rows.values():
            if any(row[field] != value for field, value in self._common.items()):
                raise JndError(
                    f"Give another folder: {path.parent} holds targets of {row['codec']} at {row['jnd']} "
                    f"JND by {row['metric']}."
                )

    def add(self, name: str, target: JndImage) -> None:
        """Adds or replaces the row of `name`; from any thread."""
        size = "" if target.size is None else str(target.size)
        with self._lock:
            self.rows[name] = {
                "name": name,
                **self._common,
                "quality": f"{target.quality:g}",
                "value": f"{target.value:.4f}",
                "bytes": size,
            }
            text = streams.StringIO()
            writer = csv.DictWriter(text, FIELDS)
            writer.writeheader()
            writer.writerows(self.rows.values())
            files.write_bytes(self._path, text.getvalue().encode())


def named_images(folder: Path) -> dict[str, Path]:
    """The images below a folder by name; that of one in a subfolder begins with it ("park-bench" for park/bench.jpg).

    Raises:
        JndError: there is none, or two have one name.
    """
    if not folder.is_dir():
        raise JndError(f"Give a folder of images: {folder} is none.")
    named: dict[str, Path] = {}
    for path in cache.find_images(folder):
        name = "-".join(path.relative_to(folder).with_suffix("").parts)
        if not name.isprintable():  # As bytes that are no UTF-8 are not, which tables cannot hold.
            raise JndError(f"Rename {str(path)!r}: its name cannot be printed.")
        if name in named:
            raise JndError(f"Rename one of {named[name]} and {path}: a pair has one name, {name}.")
        named[name] = path
    return named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax targets`."""
    calibrated = [name for name in metrics.METRICS if levels.scale_of(name)]
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of images")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DST",
        help="folder for Ref/, JND1/ and targets.csv; what is there is not made again",
    )
    parser.add_argument(
        "--codec",
        default="jpeg",
        metavar="CODEC",
        help=f"{', '.join(codecs.CONVENTIONAL)}, a model, or {KLT}, which needs no search (default: %(default)s)",
    )
    parser.add_argument(
        "--metric",
        choices=calibrated,
        default="ssimulacra2",
        help="what decides: cvvdp on the scale aic, others on konjnd; not one that your loss or your evaluation uses "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--jnd",
        type=float,
        default=1.0,
        metavar="T",
        help="just-noticeable differences from the original (default: %(default)s)",
    )
    parser.add_argument(
        "--maps",
        choices=tuple(profiles.PROFILES),
        metavar="PROFILE",
        help=f"also write maps/name.png, thresholds times 8 ({', '.join(profiles.PROFILES)})",
    )
    files.workers_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax targets`; returns the exit status."""
    metrics.jnd_threshold(args.metric, args.jnd)
    if args.codec == KLT and args.jnd != 1:
        raise JndError("Leave --jnd out: the KLT makes one just-noticeable difference by its own formula.")
    codec = None if args.codec == KLT else codecs.lookup(args.codec)
    sources = named_images(args.source)
    if args.output.resolve().is_relative_to(args.source.resolve()):
        raise JndError(f"Give -o a folder outside {args.source}: what it holds would be images to the next run.")
    table = Table(args.output / "targets.csv", codec.name if codec else KLT, args.metric, args.jnd)
    names = {path: name for name, path in sources.items()}
    map_file = lambda name: args.output / "maps" / f"{name}.png"

    def has_pair(name: str) -> bool:
        return name in table.rows and all((args.output / part / f"{name}.png").exists() for part in ("Ref", "JND1"))

    def work(source: Path, jnd_file: Path) -> str:
        name, pixels = names[source], read_pixels(source)
        if args.maps:
            images.write_image(map_file(name), images.Picture(profiles.picture(pixels, args.maps)))
        if has_pair(name):
            return f"{source}  {map_file(name)}"
        if codec:
            target = search_target(pixels, codec, args.metric, args.jnd)
        else:
            changed, kept = klt(pixels)
            target = JndImage(changed, kept, metrics.measure(args.metric, pixels, changed), None)
        write_pair(args.output, name, pixels, target.pixels)
        table.add(name, target)
        size = "" if target.size is None else f"  {target.size} bytes"
        return f"{source}  quality {target.quality:g}{size}  {args.metric} {target.value:.2f}  {jnd_file}"

    missing = [name for name in sources if not has_pair(name) or args.maps and not map_file(name).exists()]
    if len(missing) < len(sources):
        print(f"{len(sources) - len(missing)} of {len(sources)} images are done", flush=True)
    return files.each([(sources[name], args.output / "JND1" / f"{name}.png") for name in missing], work, args.workers)
