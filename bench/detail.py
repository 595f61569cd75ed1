"""Whether detail survives: small faint defects and thin text, drawn into photographs, after coding.

    python bench/detail.py --data photos/ --limit 8

Defects are squares of 1, 2 and 3 pixels, a few levels brighter or darker than what is below them. A matched filter (the
square's mean less that of the frame around it, over the deviation in the frame) scores the places with a defect and as
many without; the AUC is the share of pairs in which the defect scores higher. Text is read by tesseract, where installed
(Debian: tesseract-ocr), and compared with what was written. Prints a Markdown table: the originals losslessly, `--target jnd`, the
policies, and JPEG at the bytes of each.
"""

from __future__ import annotations

import argparse
import difflib
import io
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import rankdata
from skimage import data

import jnd_jax
from jnd_jax import codecs, policy, search
from jnd_jax.evaluation.results import find_images
from jnd_jax.images import encode_lossless, read_rgb

SIZES = (1, 2, 3)
FRAME = 3  # pixels around a defect that its filter compares it with
SPACING = 16  # between defects, so that no filter sees two
PANEL = 48  # rows at the top that hold the text
WORDS = ("The quick brown fox jumps over the lazy dog", "Lot 47-B: serial 93618, torque 2.5 Nm, 0.08 mm")


@dataclass(frozen=True)
class Specimen:
    """An image with detail drawn in.

    Attributes:
        pixels: (H, W, 3) uint8, the text in its first PANEL rows.
        places: (N, 5) row, column, size, sign, and 1 where a defect was drawn there, 0 where none was.
    """

    pixels: np.ndarray
    places: np.ndarray


def specimen(image: np.ndarray, contrast: int, seed: int) -> Specimen:
    """Draws text, and defects of +-`contrast` levels at every other place of a jittered grid."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    rows, columns = (np.arange(start, side - SPACING, SPACING) for start, side in ((PANEL + 4, height), (4, width)))
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    count = len(corners)
    places = np.column_stack(
        [
            corners + rng.integers(0, SPACING - 2 * FRAME - max(SIZES), (count, 2)) + FRAME,
            rng.choice(SIZES, count),
            rng.choice([-1, 1], count),
            rng.permutation(count) % 2,
        ]
    )
    drawn = image.astype(np.int64)
    for row, column, size, sign, there in places:
        drawn[row : row + size, column : column + size] += there * sign * contrast
    picture = Image.fromarray(np.clip(drawn, 0, 255).astype(np.uint8))
    panel = picture.crop((0, 0, width, PANEL))
    picture.paste(Image.blend(panel, Image.new("RGB", panel.size, (232, 230, 224)), 0.85))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for line, words in enumerate(WORDS):
        pen.text((6, 4 + 21 * line), words, font=font, fill=(96, 96, 100))
    return Specimen(np.asarray(picture), places)


def scores(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N,) answers of the matched filter, positive for a defect of the sign looked for."""
    grey, answers = pixels.mean(axis=2), []
    for row, column, size, sign, _ in places:
        window = grey[row - FRAME : row + size + FRAME, column - FRAME : column + size + FRAME]
        inside = np.zeros(window.shape, bool)
        inside[FRAME:-FRAME, FRAME:-FRAME] = True
        around = window[~inside]
        answers.append(sign * (window[inside].mean() - around.mean()) / (around.std() + 1))
    return np.array(answers)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve (Mann-Whitney), ties counting one half."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def text_read(pixels: np.ndarray) -> float:
    """Similarity, 0 to 1, of what tesseract reads in the panel with what was written there."""
    panel = Image.fromarray(pixels[:PANEL])
    file = io.BytesIO()
    panel.resize((3 * panel.width, 3 * panel.height), Image.Resampling.BICUBIC).save(file, "PNG")
    done = subprocess.run(
        ["tesseract", "stdin", "stdout", "--psm", "6"], input=file.getvalue(), capture_output=True, check=True
    )
    found = " ".join(done.stdout.decode("utf-8", "replace").split())
    return difflib.SequenceMatcher(None, " ".join(WORDS), found, autojunk=False).ratio()


def codings(codec, metric: str, image: np.ndarray) -> Iterator[tuple[str, Callable[[], tuple[int, np.ndarray]]]]:
    """Names, and what gives size in bytes and decoded image or raises JndError: each to be called before the next."""
    sizes: dict[str, int] = {}

    def ours(name: str, **goal) -> tuple[int, np.ndarray]:
        file = codec.encode(image, **goal)
        sizes[name] = len(file)
        return len(file), codec.decode(file)

    def jpeg(name: str) -> tuple[int, np.ndarray]:
        encode = lambda quality: codecs.encode("jpeg", image, quality)
        file = search.largest_within(encode, sizes[name], codecs.lookup("jpeg").qualities).data
        return len(file), codecs.decode("jpeg", file)

    for name, goal in {
        "--target konjnd": {"target": search.parse_target("konjnd", metric)},
        **{f"--policy {known}": {"policy": known} for known in policy.names()},
    }.items():
        yield name, lambda name=name, goal=goal: ours(name, **goal)
        if name in sizes:
            yield f"JPEG at the bytes of {name}", lambda name=name: jpeg(name)


def photographs(folder: Path | None, limit: int, crop: int) -> list[np.ndarray]:
    """The middle of each image, at most `crop` pixels a side."""
    images = (
        [read_rgb(image.path) for image in find_images(folder, limit)] if folder else [data.astronaut(), data.coffee()]
    )
    cut = lambda side: slice(max(0, side - crop) // 2, max(0, side - crop) // 2 + crop)
    return [np.ascontiguousarray(image[cut(image.shape[0]), cut(image.shape[1])]) for image in images[:limit]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-perceptual", help="name or file of a model")
    parser.add_argument("--data", type=Path, help="folder of photographs (default: two of scikit-image's)")
    parser.add_argument("--limit", type=int, default=8, help="images")
    parser.add_argument("--crop", type=int, default=512, help="largest side, of the middle of each image")
    parser.add_argument("--contrast", type=int, default=16, help="of the defects, in levels")
    parser.add_argument("--metric", default="ssimulacra2", help="of --target jnd")
    args = parser.parse_args()
    codec = jnd_jax.load(args.model)
    specimens = [
        specimen(image, args.contrast, seed) for seed, image in enumerate(photographs(args.data, args.limit, args.crop))
    ]
    ocr = shutil.which("tesseract") is not None

    def measure(this: Specimen, size: int, pixels: np.ndarray) -> tuple[float, np.ndarray, float]:
        return 8 * size / pixels[..., 0].size, scores(pixels, this.places), text_read(pixels) if ocr else np.nan

    original = [measure(this, len(encode_lossless(this.pixels)), this.pixels) for this in specimens]
    results, refusals = defaultdict(dict), defaultdict(list)
    for number, this in enumerate(specimens):
        for name, run in codings(codec, args.metric, this.pixels):
            try:
                results[name][number] = measure(this, *run())
            except jnd_jax.JndError as error:
                refusals[name].append(str(error))

    def detection(measured: dict[int, tuple], sizes: tuple[int, ...]) -> float:
        answers = np.concatenate([row[1] for row in measured.values()])
        places = np.concatenate([specimens[number].places for number in measured])
        chosen = np.isin(places[:, 2], sizes)
        return auc(answers[chosen & (places[:, 4] == 1)], answers[chosen & (places[:, 4] == 0)])

    def row(name: str, measured: dict[int, tuple]) -> str:
        areas = [detection(measured, (size,)) for size in SIZES]
        lost = detection({number: original[number] for number in measured}, SIZES) - detection(measured, SIZES)
        mean = lambda column: np.mean([one[column] for one in measured.values()])
        text = f"{mean(2):.3f}" if ocr else ""
        return f"| {name} | {len(measured)} | {mean(0):.3f} | {' | '.join(f'{a:.3f}' for a in areas)} | {lost:+.3f} | {text} |"

    print(f"{len(specimens)} images, defects of {args.contrast} levels, {codec.name}\n")
    print(
        "| coding | images | bpp | AUC 1 px | 2 px | 3 px | AUC lost | text read |\n|---|---|---|---|---|---|---|---|"
    )
    print(row("lossless WebP or PNG", dict(enumerate(original))))
    for name, measured in results.items():
        print(row(name, measured))
    for name, reasons in refusals.items():
        print(f"\n{name}: no file for {len(reasons)} of {len(specimens)} images, for example: {reasons[0]}")
    if not ocr:
        print("\nText was not read: install tesseract (Debian: apt install tesseract-ocr).")


if __name__ == "__main__":
    main()
