"""One static page: pairs judged against the original, and flicker trials for just-noticeable differences."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import codecs, search
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page
from jnd_jax.evaluation.abtest import plan
from jnd_jax.evaluation.results import find_images
from jnd_jax.images import read_rgb

# What people take for a trial, for the length that the consent names.
PAIR_SECONDS, FLICKER_SECONDS, FLICKER_TRIALS = 7, 4, 16
CONSENT = Path(__file__).parents[1] / "templates" / "consent.txt"


def parse_condition(text: str) -> tuple[str, str]:
    """`CODEC@GOAL` -> (codec, goal); goal as `jnd_jax.search.parse_target` reads it, or q=QUALITY."""
    codec, _, goal = text.rpartition("@")
    if not codec:
        raise JndError(f"Write a condition as CODEC@bpp=0.5, CODEC@jnd or CODEC@q=50, not {text!r}")
    return codec, goal


def coded(pixels: np.ndarray, codec: codecs.Codec, goal: str) -> tuple[np.ndarray, int]:
    """One image coded for a goal: (decoded image, bytes)."""
    if goal.startswith("q="):
        try:
            quality = float(goal[2:])
        except ValueError as error:
            raise JndError(f"Write a quality as q=50, not {goal!r}") from error
        if quality not in codec.qualities:
            low, high = codec.qualities[0], codec.qualities[-1]
            raise JndError(f"{codec.name} has no quality {quality:g}: give one of its steps from {low:g} to {high:g}.")
        data = codec.encode(pixels, quality)
    else:
        data = search.reach(pixels, codec.encode, codec.decode, codec.qualities, search.parse_target(goal)).data
    return codec.decode(data), len(data)


def _centre(pixels: np.ndarray, size: int) -> np.ndarray:
    top, left = (max(0, (side - size) // 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


class _Sources:
    """The pictures of the page by name, as data: URIs of lossless WebP files."""

    def __init__(self, crop: int) -> None:
        self.uris: dict[str, str] = {}
        self._crop = crop

    def add(self, name: str, pixels: np.ndarray) -> str:
        """Adds the middle of a picture; returns `name`."""
        self.uris[name] = page.data_uri(page.lossless(_centre(pixels, self._crop)), "image/webp")
        return name


def _pairs(
    image: str, pixels: np.ndarray, conditions: Mapping[str, tuple[codecs.Codec, str]], sources: _Sources
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All pairs of conditions on one image, and what their files weigh."""
    shown, files = {}, []
    for text, (codec, goal) in conditions.items():
        decoded, size = coded(pixels, codec, goal)
        shown[text] = sources.add(f"{image}|{text}", decoded)
        bpp = size * 8 / (pixels.shape[0] * pixels.shape[1])
        files.append({"image": image, "condition": text, "bytes": size, "bpp": bpp})
    original = f"{image}|original"
    pairs = [
        {"image": image, "original": original, "first": shown[a], "second": shown[b], "check": False}
        for a, b in itertools.combinations(conditions, 2)
    ]
    return pairs, files


def _bad(image: str, pixels: np.ndarray, sources: _Sources) -> str:
    """A JPEG that everybody tells from the original."""
    return sources.add(f"{image}|check", codecs.decode("jpeg", codecs.encode("jpeg", pixels, 4)))


def _check(image: str, pixels: np.ndarray, sources: _Sources) -> dict[str, Any]:
    """An attention check: the original beside a bad JPEG."""
    bad = _bad(image, pixels, sources)
    original = f"{image}|original"
    return {"image": image, "original": original, "first": original, "second": bad, "check": True}


def _flicker(image: str, pixels: np.ndarray, codec: codecs.Codec, levels: int, sources: _Sources) -> dict[str, Any]:
    """The flicker trials of one image: `levels` qualities, evenly over the codec's grid."""
    goals = np.linspace(codec.grid[0], codec.grid[-1], levels)
    steps = dict.fromkeys(min(codec.qualities, key=lambda q: abs(q - goal)) for goal in goals)
    name = lambda quality: f"{image}|{codec.name}@q={quality:g}"
    return {
        "image": image,
        "codec": codec.name,
        "original": f"{image}|original",
        "plain": _bad(image, pixels, sources),
        "levels": [
            {
                "quality": quality,
                "source": sources.add(name(quality), codec.decode(codec.encode(pixels, quality))),
            }
            for quality in steps
        ],
    }


def _consent(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeError as error:
        raise JndError(f"{path} is not in UTF-8: save the text in that encoding.") from error


def build(
    folder: Path,
    conditions: Sequence[str],
    flicker: str | None,
    *,
    limit: int | None = None,
    flicker_images: int = 6,
    levels: int = 16,
    checks: int = 8,
    repeats: int = 1,
    crop: int = 512,
    title: str = "Image comparison",
    consent: Path = CONSENT,
    subjects: int | None = None,
    looks: int = 0,
) -> dict[str, Any]:
    """The whole test as data of its page.

    Args:
        folder: original images.
        conditions: `CODEC@GOAL`, none or at least two; every pair of them is compared on every image.
        flicker: codec of the flicker test, or None.
        limit: only the first images.
        flicker_images: images in the flicker test.
        levels: qualities of a flicker test, evenly spread over the codec's grid.
        checks: attention checks: the original beside a bad JPEG.
        repeats: how often each pair is shown.
        crop: side of the square that is shown of each image; files are always of the whole image.
        title: heading.
        consent: file with the text that subjects agree to; {minutes} in it becomes the length of the test.
        subjects: how many will be asked, fixed now: before, `analyse` gives no verdict. See `abtest plan`.
        looks: that may give a verdict before, at the price of a stricter level.

    Raises:
        JndError: nothing to compare, a goal out of a codec's reach, or no such plan.
    """
    plan.end_level(looks)
    if looks and subjects is None:
        raise JndError("Say how many subjects will be asked in the end (--subjects) where you plan looks before it.")
    if len(set(conditions)) < len(conditions) or len(conditions) == 1 or (not conditions and flicker is None):
        raise JndError("Name at least two different conditions, or a codec for the flicker test.")
    images = find_images(folder, limit)
    parsed = {}
    for text in conditions:
        name, goal = parse_condition(text)
        parsed[text] = (codecs.lookup(name), goal)
    flicker_codec = codecs.lookup(flicker) if flicker else None
    text_of_consent = _consent(consent)
    sources = _Sources(crop)
    pairs, bad, flickers, files = [], [], [], []
    for number, image in enumerate(images):
        pixels = read_rgb(image.path)
        sources.add(f"{image.name}|original", pixels)
        of_image, weights = _pairs(image.name, pixels, parsed, sources)
        pairs += of_image
        files += weights
        if number < checks and conditions:
            bad.append(_check(image.name, pixels, sources))
        if flicker_codec is not None and number < flicker_images:
            flickers.append(_flicker(image.name, pixels, flicker_codec, levels, sources))
    # Few images still give `checks` checks: they come again.
    bad = list(itertools.islice(itertools.cycle(bad), checks)) if bad else []
    seconds = PAIR_SECONDS * (len(pairs) * repeats + len(bad)) + FLICKER_SECONDS * FLICKER_TRIALS * len(flickers)
    minutes = max(1, math.ceil(seconds / 60))
    test = {
        "title": title,
        "consent": text_of_consent.replace("{minutes}", str(minutes)),
        "plan": None if subjects is None else {"subjects": subjects, "looks": looks},
        "repeats": repeats,
        "pairs": pairs,
        "checks": bad,
        "flickers": flickers,
        "files": files,
        "sources": sources.uris,
    }
    return {"id": hashlib.sha256(json.dumps(test, sort_keys=True).encode()).hexdigest()[:16], **test}


def write_page(test: Mapping[str, Any], folder: Path) -> None:
    """Writes index.html, complete in itself, and test.json, the same without the pictures.

    Raises:
        JndError: the folder holds answers to another test.
    """
    known, answers = folder / "test.json", folder / "answers"
    answered = known.exists() and answers.is_dir() and any(answers.iterdir())
    if answered and json.loads(known.read_text(encoding="utf-8"))["id"] != test["id"]:
        raise JndError(f"{folder} holds answers to another test: name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page.fill("abtest.html", test), encoding="utf-8")
    record = {key: value for key, value in test.items() if key != "sources"}
    (folder / "test.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
