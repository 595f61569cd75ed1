"""The smallest file that meets a target, for any codec whose quality is monotone.

`parse_target` reads targets as users write them: `aic=1`, `visually-lossless`, `psnr=38`, `bpp=0.5`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from jnd_jax import metrics
from jnd_jax.errors import JndError
from jnd_jax.metrics import levels


class OutOfReach(JndError):
    """No quality of the codec meets the target."""


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        quality: the chosen quality.
        data: the file at that quality.
        value: what `passes`, or the target's metric, gave for it.
        encodes: number of encodes the search took.
    """

    quality: float
    data: bytes
    value: float
    encodes: int


@dataclass(frozen=True)
class Target:
    """A goal for one file.

    Attributes:
        metric: "bpp" or a name of `jnd_jax.metrics`.
        value: what to reach.
        scale: that of just-noticeable differences which gave the value, see `jnd_jax.metrics.levels`; "" for none.
        jnds: how many of them.
    """

    metric: str
    value: float
    scale: str = ""
    jnds: float | None = None


def parse_target(text: str, metric: str | None = None) -> Target:
    """Reads a target as users write it.

    aic, aic=T          T just-noticeable differences (1 if not given) of people's scale of JPEG AIC-3/4
    jnd, jnd=T          the same
    konjnd, konjnd=T    T of the scale of KonJND-1k's flicker test
    visually-lossless   half a JND of aic by the stricter of two judges
    METRIC=V, bpp=V     the value of a metric, or bits per pixel

    Args:
        text: the target.
        metric: that tells JNDs, None for the best judge on the scale.

    Raises:
        JndError: unknown form, metric or number; a metric that has no level on the scale or where no scale is named.
    """
    name, _, number = text.partition("=")
    try:
        value = float(number) if number else None
    except ValueError:
        value = math.nan
    finite = value is None or math.isfinite(value)
    scale = levels.AIC if name == "jnd" else name
    if scale in levels.SCALES and finite:
        jnds = 1.0 if value is None else value
        return Target(*levels.level(scale, jnds, metric), scale, jnds)
    if metric is not None:
        raise JndError(f"Name a metric only with a target in JNDs, not with {text}.")
    if text == "visually-lossless":
        return Target(*levels.level(levels.AIC, 0.5, "aic-strict"), levels.AIC, 0.5)
    if value is None or not finite or (name == "bpp" and value <= 0):
        raise JndError(
            f"{text!r} is no target: write aic=1, konjnd=1, visually-lossless, psnr=38, ssimulacra2=70 or bpp=0.5."
        )
    if name != "bpp":
        metrics.lookup(name)
    return Target(name, value)


def _inverse_interpolation(known: Mapping[float, float]) -> float:
    """Position of value 0 by inverse interpolation.

    Fits a parabola to the three nearest (position, value) pairs if they are monotone, else a secant to two.
    """
    nearest = sorted(known, key=lambda i: abs(known[i]))[:3]
    (p0, v0), (p1, v1) = ((i, known[i]) for i in nearest[:2])
    if v0 == v1:
        return math.nan
    secant = p0 - v0 * (p1 - p0) / (v1 - v0)
    if len(nearest) < 3:
        return secant
    p2, v2 = nearest[2], known[nearest[2]]
    ordered = sorted(((p0, v0), (p1, v1), (p2, v2)))
    if not ordered[0][1] < ordered[1][1] < ordered[2][1]:
        return secant
    return (
        p0 * v1 * v2 / ((v0 - v1) * (v0 - v2))
        + p1 * v0 * v2 / ((v1 - v0) * (v1 - v2))
        + p2 * v0 * v1 / ((v2 - v0) * (v2 - v1))
    )


def _guess(known: Mapping[int, float], expected: Sequence[float] | None, tolerance: float) -> float:
    """Next index to try, aiming at the middle of the accepted interval [0, tolerance]; nan if too little is known."""
    if expected is None:
        return _inverse_interpolation({i: v - tolerance / 2 for i, v in known.items()}) if len(known) > 1 else math.nan
    # Plotted against the typical curve, an image's margins are close to a line of slope 1.
    points = sorted((expected[i], v - tolerance / 2) for i, v in known.items())
    below, above = [p for p in points if p[1] < 0][-1:], [p for p in points if p[1] >= 0][:1]
    if below and above:
        (p0, v0), (p1, v1) = *below, *above
        position = p0 - v0 * (p1 - p0) / (v1 - v0)
    else:
        position, value = min(points, key=lambda p: abs(p[1]), default=(0.0, 0.0))
        slope = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0]) if len(points) > 1 else 1.0
        position -= value / min(max(slope, 0.5), 2.0)
    return float(np.searchsorted(expected, position))


def _boundary(
    value_at: Callable[[int], float],
    count: int,
    known: dict[int, float],
    tolerance: float,
    expected: Sequence[float] | None = None,
) -> int:
    """Lowest index in 0..count-1 with value >= 0 of a non-decreasing function, or `count` if there is none.

    Interpolates between known values and bisects whenever that has not halved the bracket in two evaluations.
    Ends as soon as a value in [0, tolerance] is found. `expected`: typical values, ascending.
    """
    fails = max((i for i, v in known.items() if v < 0), default=-1)
    holds = min((i for i, v in known.items() if v >= 0 and i > fails), default=count)
    widths = []
    while holds - fails > 1 and not (holds < count and known[holds] <= tolerance):
        widths.append(holds - fails)
        # With a typical curve the first guesses are near, but may all lie on one side: wait longer before bisecting.
        patience = 2 if expected is None else 4
        slow = len(widths) > patience and widths[-1] > max(2, widths[-3] / 2)
        position = math.nan if slow else _guess(known, expected, tolerance)
        guess = math.ceil(position) if math.isfinite(position) else (fails + holds) // 2
        guess = min(max(guess, fails + 1), holds - 1)
        known[guess] = value_at(guess)
        if known[guess] >= 0:
            holds = guess
        else:
            fails = guess
    return holds


def smallest(
    encode: Callable[[float], bytes],
    decode: Callable[[bytes], np.ndarray],
    passes: Callable[[np.ndarray], float | bool],
    qualities: Sequence[float],
    *,
    tolerance: float = 0.0,
    known: Mapping[float, float] | None = None,
    expected: Sequence[float] | None = None,
) -> Found:
    """The lowest quality whose decoded image passes.

    Args:
        encode: quality -> file.
        decode: file -> (H, W, 3) uint8 image.
        passes: image -> how far the image is above its threshold (>= 0 passes; non-decreasing in quality), or
            a bool.
        qualities: all qualities the codec has, ascending.
        tolerance: a margin in [0, tolerance] is close enough and ends the search early.
        known: margins measured before, by quality; these are not encoded again unless one is the answer.
        expected: margin of a typical image at each of `qualities`, strictly ascending.

    Returns:
        `Found`, its `value` the margin.

    Raises:
        OutOfReach: not even the highest quality passes.
    """
    files: dict[int, bytes] = {}

    def value_at(index: int) -> float:
        files[index] = encode(qualities[index])
        value = passes(decode(files[index]))
        # Infinite values cannot be interpolated: a predicate is bisected.
        return (math.inf if value else -math.inf) if isinstance(value, (bool, np.bool_)) else float(value)

    margins = {i: known[q] for i, q in enumerate(qualities) if q in known} if known else {}
    index = _boundary(value_at, len(qualities), margins, tolerance, expected)
    if index == len(qualities):
        raise OutOfReach(
            f"Even quality {qualities[-1]:g} misses the target (by {-margins[index - 1]:.3g}): choose one that asks for less."
        )
    if index not in files:
        files[index] = encode(qualities[index])
    return Found(qualities[index], files[index], margins[index], len(files))


def largest_within(
    encode: Callable[[float], bytes], budget: int, qualities: Sequence[float], tolerance: float = 0.0
) -> Found:
    """The highest quality whose file is at most `budget` bytes.

    Args:
        encode: quality -> file, its size non-decreasing in quality.
        budget: bytes.
        qualities: all qualities the codec has, ascending.
        tolerance: a file within this many bytes below the budget ends the search early.

    Returns:
        `Found`, its `value` the size in bytes.

    Raises:
        OutOfReach: even the lowest quality needs more bytes.
    """
    files: dict[int, bytes] = {}
    descending = qualities[::-1]

    def bytes_left(index: int) -> float:
        files[index] = encode(descending[index])
        return float(budget - len(files[index]))

    index = _boundary(bytes_left, len(qualities), {}, tolerance)
    if index == len(qualities):
        raise OutOfReach(
            f"Even quality {qualities[0]:g} needs {len(files[index - 1])} bytes, more than {budget}: "
            "choose a larger target."
        )
    return Found(descending[index], files[index], len(files[index]), len(files))


def reach(
    reference: np.ndarray,
    encode: Callable[[np.ndarray, float], bytes],
    decode: Callable[[bytes], np.ndarray],
    qualities: Sequence[float],
    target: Target,
    *,
    tolerance: float = 0.01,
    measure: Callable[[str, np.ndarray, np.ndarray], float] = metrics.measure,
    typical: Mapping[str, Callable[[float], float]] = MappingProxyType({}),
) -> Found:
    """The smallest file of `reference` that reaches `target`; for bpp the best file that stays within it.

    Args:
        reference: an image that `encode` takes: (H, W, 3) uint8, unless `measure` takes others.
        encode: (image, quality) -> file.
        decode: file -> image.
        qualities: all qualities the codec has, ascending.
        target: see `parse_target`.
        tolerance: fraction of the target's `metrics.span` by which the search may overshoot.
        measure: (metric's name, reference, decoded image) -> value.
        typical: by metric, its value at each quality for a typical image, strictly monotone: where searches begin.

    Returns:
        `Found`, its `value` in the target's metric.

    Raises:
        OutOfReach: the target is out of the codec's reach.
    """
    if target.metric == "bpp":
        pixels = reference.shape[0] * reference.shape[1]
        budget = int(min(target.value * pixels / 8, 2**63))
        found = largest_within(lambda q: encode(reference, q), budget, qualities, tolerance * budget)
        return Found(found.quality, found.data, found.value * 8 / pixels, found.encodes)

    margin_of = lambda value: metrics.margin(target.metric, value, target.value)
    curve = typical.get(target.metric)
    try:
        found = smallest(
            lambda q: encode(reference, q),
            decode,
            lambda image: margin_of(_measure(measure, target, reference, image)),
            qualities,
            tolerance=tolerance * metrics.span(target.metric, target.value),
            expected=None if curve is None else [margin_of(curve(q)) for q in qualities],
        )
    except OutOfReach as error:
        level = f"{target.metric} {target.value:g}"
        asked = f"{target.scale}={target.jnds:g} ({level})" if target.scale else level
        raise OutOfReach(f"{asked} is out of reach: {error}") from error
    sign = 1 if metrics.lookup(target.metric).better == "higher" else -1
    return Found(found.quality, found.data, target.value + sign * found.value, found.encodes)


def _measure(measure: Callable, target: Target, reference: np.ndarray, image: np.ndarray) -> float:
    # A lossless file has infinite PSNR, which no interpolation bears.
    return min(measure(target.metric, reference, image), 1e3)


def reach_above(
    reference: np.ndarray,
    encode: Callable[[np.ndarray, float], bytes],
    decode: Callable[[bytes], np.ndarray],
    qualities: Sequence[float],
    target: Target,
    floor: Target,
    finish: Callable[[bytes], bytes] = lambda data: data,
    measure: Callable[[str, np.ndarray, np.ndarray], float] = metrics.measure,
    **options,
) -> tuple[Found, float]:
    """The smallest file that reaches `target`; if none does, that of the highest quality.

    `finish` is then applied, and the quality raised until `floor` holds.

    Args:
        reference: as for `reach`.
        encode: as for `reach`.
        decode: as for `reach`.
        qualities: as for `reach`.
        target: what the file should reach before `finish`; not bpp.
        floor: what the kept file must reach after `finish`; not bpp.
        finish: file -> the file that is kept.
        measure: as for `reach`.
        options: of `reach`.

    Returns:
        `Found`, its `value` what the kept file reaches in the target's metric, and the value in the floor's.

    Raises:
        OutOfReach: no quality reaches the floor.
    """
    encodes = 0

    def counted(image: np.ndarray, quality: float) -> bytes:
        nonlocal encodes
        encodes += 1
        return encode(image, quality)

    try:
        found = reach(reference, counted, decode, qualities, target, measure=measure, **options)
        quality, data = found.quality, finish(found.data)
    except OutOfReach:
        quality, data = qualities[-1], finish(counted(reference, qualities[-1]))
    pixels = decode(data)
    kept = _measure(measure, floor, reference, pixels)
    if metrics.margin(floor.metric, kept, floor.value) < 0:
        higher = [other for other in qualities if other > quality]
        if not higher:
            raise OutOfReach(
                f"Even quality {quality:g} does not keep {floor.metric} {floor.value:g} "
                f"(it reaches {kept:.4g}): keep this image in a lossless format."
            )
        raised = reach(
            reference, lambda image, q: finish(counted(image, q)), decode, higher, floor, measure=measure, **options
        )
        quality, data, kept, pixels = raised.quality, raised.data, raised.value, decode(raised.data)
    return Found(quality, data, _measure(measure, target, reference, pixels), encodes), kept
