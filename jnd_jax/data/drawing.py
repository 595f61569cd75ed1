"""Graphics to train on: even or shaded grounds with shapes, lines and lettering, or these over a photograph.

Photographs hold few hard edges on even ground. Charts, screens, signs and cables are made of them.
"""

from __future__ import annotations

import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FINE = 3  # Shapes are drawn at so many times the size and then reduced, for smooth edges.
_MOST = 8  # shapes in one picture
_ON_GROUND = 0.5  # chance of a ground of its own in place of the photograph
_TEXT_SIZES = (7, 40)  # pixels
_LETTERS = np.array(list(string.ascii_letters + string.digits + "      "))

Point = tuple[float, float]


def drawn(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few random shapes over `patch`, or over an even or shaded ground in its place: (H, W, 3) uint8 to the same."""
    height, width = patch.shape[:2]
    if rng.random() < _ON_GROUND:
        patch = _ground(rng, height, width)
    large = (_FINE * width, _FINE * height)
    # What nothing is drawn on comes back as it was.
    image = Image.fromarray(np.ascontiguousarray(patch)).resize(large, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, _MOST + 1)):
        shape = _SHAPES[rng.integers(len(_SHAPES))]
        shape(draw, rng, large)
    return np.asarray(image.reduce(_FINE))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Black, white, a grey or, most often, any colour."""
    red, green, blue = rng.integers(256, size=3).tolist()
    greys = (0, 255, red)
    kind = rng.integers(5)
    if kind < len(greys):
        red = green = blue = greys[kind]
    return red, green, blue


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One colour, or a gradient between two in any direction."""
    start, end = (np.array(_colour(rng), np.float32) for _ in range(2))
    angle, rows, columns = rng.uniform(0, 2 * np.pi), np.arange(height)[:, None], np.arange(width)
    ramp = rows / height * np.sin(angle) + columns / width * np.cos(angle)
    ramp = (ramp - ramp.min()) / max(np.ptp(ramp), 1e-6) * rng.integers(2)
    return (start + ramp[..., None] * (end - start) + 0.5).astype(np.uint8)


def _points(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[Point]:
    """Points in the picture or a little outside."""
    return [(x, y) for x, y in (rng.uniform(-0.125, 1.125, (count, 2)) * size).tolist()]


def _corners(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    (left, right), (top, bottom) = (sorted(axis) for axis in zip(*_points(rng, size, 2)))
    return left, top, right, bottom


# Each shape takes an ImageDraw, a generator, and the picture's width and height.


def _polygon(draw, rng, size):
    draw.polygon(_points(rng, size, int(rng.integers(3, 7))), fill=_colour(rng))


def _rectangle(draw, rng, size):
    draw.rectangle(_corners(rng, size), fill=_colour(rng))


def _ellipse(draw, rng, size):
    draw.ellipse(_corners(rng, size), fill=_colour(rng))


def _stripes(draw, rng, size):
    """Level or upright bars, as wide as the gaps between them."""
    left, top, right, bottom = _corners(rng, size)
    step, colour = rng.uniform(3, 32) * _FINE, _colour(rng)
    if rng.integers(2):
        for y in np.arange(top, bottom, 2 * step):
            draw.rectangle((left, y, right, y + step), fill=colour)
    else:
        for x in np.arange(left, right, 2 * step):
            draw.rectangle((x, top, x + step, bottom), fill=colour)


def _line(draw, rng, size):
    """A straight line, or a curve (Bézier, of degree three)."""
    ends, colour, width = _points(rng, size, 4), _colour(rng), round(rng.uniform(0.7, 6) * _FINE)
    t = np.linspace(0, 1, 32)[:, None] if rng.integers(2) else np.array([[0.0], [1.0]])
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    draw.line([(x, y) for x, y in (weights @ ends).tolist()], fill=colour, width=width, joint="curve")


def _text(draw, rng, size):
    """A few lines of letters."""
    lines = ["".join(rng.choice(_LETTERS, int(rng.integers(3, 24)))) for _ in range(rng.integers(1, 5))]
    ((x, y),), font = _points(rng, size, 1), ImageFont.load_default(int(rng.integers(*_TEXT_SIZES)) * _FINE)
    draw.multiline_text((x / 2, y), "\n".join(lines), fill=_colour(rng), font=font)


_SHAPES = (_polygon, _rectangle, _ellipse, _stripes, _line, _line, _text)
