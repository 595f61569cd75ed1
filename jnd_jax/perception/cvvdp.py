"""ColorVideoVDP for still pictures in JAX, differentiable: visible differences in just-objectionable differences (JOD).

Mantiuk, Hanji, Ashraf, Asano and Chapiro, "ColorVideoVDP: A visual difference predictor for image, video and display
distortions", ACM Transactions on Graphics 43(4), 2024. A model of the display turns pixels into light, light into
luminance and two colour-opponent channels, and these into contrast in bands of spatial frequency. Contrast is weighed
by the sensitivity of castleCSF, differences are masked by what both pictures contain, and pooled.

Constants are those of the package cvvdp 0.5.7 (Graphics and Displays group, University of Cambridge; MIT licence).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.perception.arrays import gaussian
from jnd_jax.perception.colour import LINEAR_RGB_TO_CONES, LUMA, linear_light

_SMALLEST = 4  # pixels a side that give one band beside the mean
_LOWEST_FREQUENCY, _BASE_BAND_FREQUENCY = 0.2, 0.1  # cycles per degree

# Linear sRGB to the DKL opponent space of a D65 white: achromatic, red-green, violet-yellow.
_RGB_TO_DKL = (
    np.array(
        [
            [1.000000000000000, 1.000000000000000, 0.0],
            [1.000000000000000, -2.311130179947035, 0.0],
            [-1.000000000000000, -1.000000000000000, 50.977571328718781],
        ]
    )
    @ LINEAR_RGB_TO_CONES
)

_PYRAMID_TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
_DARKEST, _HIGHEST_CONTRAST = 0.01, 1000.0  # cd/m^2; of a band

_SENSITIVITY_GAIN = 10 ** (-0.2797423303127289 / 20)
_CHANNEL_GAIN = (1.0, 1.45, 1.0)
_DIFFERENCE_EXPONENT = 2.264355182647705
_MASKING_EXPONENT = (1.302622675895691, 2.8885908126831055, 3.6807713508605957)
_MASKING_GAIN = 10**-0.7954971194267273
# Row: the channel that masks; column: the channel that is masked.
_CROSS_MASKING = 2.0 ** np.array(
    [
        [-0.18950104713439941, -5.962151050567627, -4.31834602355957],
        [2.5655593872070312, 0.34406712651252747, -2.719646453857422],
        [3.8118371963500977, -1.0051705837249756, -0.5193376541137695],
    ]
)
_MASKING_BLUR_SIGMA, _MASKING_BLUR_RADIUS = 3.0, 6
_LARGEST_DIFFERENCE = 10**2.5642454624176025

_SPACE_EXPONENT, _BAND_EXPONENT, _CHANNEL_EXPONENT = 2.0, 4.0, 4.0
_BASE_BAND_WEIGHT = (0.0036334486212581396, 1.6627724170684814, 4.11874532699585)
_STILL_PICTURE = 0.577918291091919  # stands for the pooling over time
_JOD_GAIN, _JOD_EXPONENT, _JOD_LINEAR_BELOW = 0.0439569391310215, 0.9302042722702026, 0.1
BEST_JOD = 10.0

# Factor that gives `cvvdp_error` the size of 255^2 * MSE (bench/calibrate_distances.py).
AS_SQUARED_ERROR = 33.0

_MAP_JODS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MAP_COLOURS = ((0.2, 0.2, 1.0), (0.2, 1.0, 1.0), (0.2, 1.0, 0.2), (1.0, 1.0, 0.2), (1.0, 0.2, 0.2))

_CSF_LUMINANCE = (math.log10(0.005), 4.0)  # range of the table's rows, decimal logarithm of cd/m^2
_CSF_FREQUENCY = (-1.0, math.log10(64.0))  # range of its columns, decimal logarithm of cycles per degree


@dataclass(frozen=True)
class Display:
    """An sRGB screen in a room, seen from a distance; by default the package's `standard_fhd`.

    Attributes:
        pixels_per_degree: of visual angle; 37.8 is a 24-inch screen of 1920 x 1080 pixels from 60 cm.
        peak: luminance of white, cd/m^2.
        contrast: of white to black without room light.
        room_light: illuminance on the screen, lux.
        reflectivity: share of the room light that the screen reflects.
    """

    pixels_per_degree: float = 37.8425
    peak: float = 200.0
    contrast: float = 1000.0
    room_light: float = 250.0
    reflectivity: float = 0.005


STANDARD_FHD = Display()
STANDARD_4K = Display(pixels_per_degree=75.4024)  # 30 inches of 3840 x 2160 pixels from 75 cm


def _power(x: jax.Array, exponent: jax.Array | float) -> jax.Array:
    """x ** exponent for x >= 0 with finite derivatives at 0, in the package's form (it shifts small values)."""
    epsilon = 1e-5
    return (x + epsilon) ** exponent - epsilon**exponent


def _norm(x: jax.Array, exponent: float, axis: int | tuple[int, ...], mean: bool = False) -> jax.Array:
    powers = _power(x, exponent)
    return _power(jnp.mean(powers, axis) if mean else jnp.sum(powers, axis), 1.0 / exponent)


def _per_channel(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def _opponent(x: jax.Array, display: Display) -> jax.Array:
    """sRGB (B, H, W, 3) in [0, 1] -> light from the screen as (B, 3, H, W): luminance in cd/m^2, two opponent colours."""
    black = display.peak / display.contrast
    reflected = display.room_light * display.reflectivity / math.pi
    light = (display.peak - black) * linear_light(x) + black + reflected
    matrix = jnp.asarray(_RGB_TO_DKL, light.dtype)
    return jnp.einsum("bhwc,dc->bdhw", light, matrix, precision="highest")


def _banded(taps: tuple[float, ...] | np.ndarray, outputs: int, step: int = 1) -> np.ndarray:
    """(window, outputs) matrix of a filter of `taps` at every `step`-th position of a window."""
    matrix = np.zeros((step * (outputs - 1) + len(taps), outputs), np.float32)
    for i in range(outputs):
        matrix[step * i : step * i + len(taps), i] = taps
    return matrix


_WINDOW = 32
_BLUR = _banded(gaussian(_MASKING_BLUR_RADIUS, _MASKING_BLUR_SIGMA), _WINDOW)
_REDUCE = _banded(_PYRAMID_TAPS, _WINDOW // 2, step=2)
# Twice the resolution: at even positions the outer and centre taps meet samples, at odd ones the inner taps.
_EXPAND = np.zeros((_WINDOW // 2 + 2, _WINDOW), np.float32)
_EXPAND[:, ::2] = _banded(2 * np.array(_PYRAMID_TAPS)[::2], _WINDOW // 2)
_EXPAND[1:, 1::2] = _banded(2 * np.array(_PYRAMID_TAPS)[1::2], _WINDOW // 2)


def _filter(x: jax.Array, axis: int, border: int, mode: str, matrix: np.ndarray, hop: int, count: int) -> jax.Array:
    """Filters (B, C, H, W) along an axis by one matrix product: far fewer operations to compile than a sum over taps.

    Args:
        x: the samples.
        axis: 2 or 3.
        border: samples added on both sides.
        mode: how, as for `jnp.pad`.
        matrix: (window, outputs) of one window; windows start at multiples of `hop`, overlapping by at most that.
        hop: see above.
        count: outputs to keep.
    """
    pad = lambda x, before, after, mode: jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(4)], mode)
    take = lambda x, axis, start, stop: jax.lax.slice_in_dim(x, start, stop, axis=axis)
    window, outputs = matrix.shape
    windows = -(-count // outputs)
    x = pad(x, border, border, mode)
    size = (windows + 1) * hop
    x = take(x, axis, 0, size) if x.shape[axis] > size else pad(x, 0, size - x.shape[axis], "constant")
    blocks = x.reshape(*x.shape[:axis], windows + 1, hop, *x.shape[axis + 1 :])
    overlap = take(take(blocks, axis, 1, windows + 1), axis + 1, 0, window - hop)
    views = jnp.concatenate([take(blocks, axis, 0, windows), overlap], axis + 1)
    formula = "bcnlw,lm->bcnmw" if axis == 2 else "bchnl,lm->bchnm"
    y = jnp.einsum(formula, views, jnp.asarray(matrix, x.dtype), precision="highest")
    return take(y.reshape(*x.shape[:axis], windows * outputs, *x.shape[axis + 1 :]), axis, 0, count)


def _reduce(x: jax.Array) -> jax.Array:
    """(B, C, H, W) at half the resolution, sides rounded up: a 5-tap filter on mirrored borders, every second sample.

    The package takes the parity of the height for that of the width: where they differ it is off by up to .003 JOD.
    """
    for axis in (2, 3):
        x = _filter(x, axis, 2, "symmetric", _REDUCE, _WINDOW, -(-x.shape[axis] // 2))
    return x


def _expand(x: jax.Array, height: int, width: int) -> jax.Array:
    """(B, C, ceil(height / 2), ceil(width / 2)) at twice the resolution by the filter of `_reduce`."""
    x = _filter(x, 2, 1, "edge", _EXPAND, _WINDOW // 2, height)
    return _filter(x, 3, 1, "edge", _EXPAND, _WINDOW // 2, width)


def _frequencies(height: int, width: int, pixels_per_degree: float) -> list[float]:
    """Centre frequency of each band in cycles per degree, the last that of the base band."""
    deepest = int(math.log2(min(height, width))) - 1
    bands = [pixels_per_degree / 2 * share for share in (1.0, *(0.3228 * 2.0**-i for i in range(14)))]
    count = next((i for i, frequency in enumerate(bands) if frequency <= _LOWEST_FREQUENCY), deepest)
    return [*bands[: min(count + 1, deepest)], _BASE_BAND_FREQUENCY]


def _contrast_bands(image: jax.Array, bands: int) -> list[tuple[jax.Array, jax.Array]]:
    """Weber contrast in the bands of a Laplacian pyramid.

    Args:
        image: (B, 3, H, W) of `_opponent`.
        bands: how many, the base band among them.

    Returns:
        For each band contrast (B, 3, h, w) and the background it is relative to, (B, 1, h, w) (for the base band
        (B, 1, 1, 1)), as decimal logarithm of cd/m^2.
    """
    result = []
    for band in range(bands - 1):
        reduced = _reduce(image)
        surround = _expand(reduced, *image.shape[2:])
        background = jnp.maximum(surround[:, :1], _DARKEST)
        gain = 1.0 if band == 0 else 2.0
        contrast = gain * jnp.minimum((image - surround) / background, _HIGHEST_CONTRAST)
        result.append((contrast, jnp.log10(background)))
        image = reduced
    background = jnp.mean(jnp.maximum(image[:, :1], _DARKEST), (2, 3), keepdims=True)
    result.append((jnp.minimum(image / background, _HIGHEST_CONTRAST), jnp.log10(background)))
    return result


@functools.cache
def _csf_table() -> np.ndarray:
    """(3 channels, 32 luminances, 32 frequencies): decimal logarithm of contrast sensitivity."""
    with resources.files("jnd_jax.perception").joinpath("castlecsf.csv").open() as file:
        return np.loadtxt(file, delimiter=",").reshape(3, 32, 32)


def _sensitivity(frequency: float, log_background: jax.Array) -> jax.Array:
    """castleCSF's contrast sensitivity of the three channels.

    Args:
        frequency: cycles per degree.
        log_background: (B, 1, h, w), decimal logarithm of cd/m^2.

    Returns:
        (B, 3, h, w).
    """
    log_table = _csf_table()
    columns = np.linspace(*_CSF_FREQUENCY, log_table.shape[2])
    curves = np.stack([[np.interp(math.log10(frequency), columns, row) for row in channel] for channel in log_table])
    knots = curves.shape[1]
    low, high = _CSF_LUMINANCE
    position = jnp.clip((log_background - low) / (high - low) * (knots - 1), 0.0, knots - 1)
    knot = jnp.minimum(position.astype(jnp.int32), knots - 2)
    share = position - knot
    tables = [jnp.asarray(curve, log_background.dtype) for curve in curves]
    log_sensitivity = jnp.concatenate([table[knot] * (1 - share) + table[knot + 1] * share for table in tables], 1)
    return _SENSITIVITY_GAIN * 10.0**log_sensitivity


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian over the last two axes, mirrored without repeating the border; small images stay as they are."""
    if min(x.shape[2:]) <= _MASKING_BLUR_RADIUS:
        return x
    for axis in (2, 3):
        x = _filter(x, axis, _MASKING_BLUR_RADIUS, "reflect", _BLUR, _WINDOW, x.shape[axis])
    return x


def _masked_difference(x: jax.Array, y: jax.Array) -> jax.Array:
    """Visible difference of two bands (B, 3, h, w) of contrast in units of threshold, masked by what both contain."""
    common = _MASKING_GAIN * _blur(jnp.minimum(jnp.abs(x), jnp.abs(y)))
    maskers = _power(common, jnp.asarray(_per_channel(_MASKING_EXPONENT)))
    mask = jnp.einsum("bmhw,mc->bchw", maskers, jnp.asarray(_CROSS_MASKING, x.dtype), precision="highest")
    difference = _power(jnp.abs(y - x), _DIFFERENCE_EXPONENT) / (1.0 + mask)
    return _LARGEST_DIFFERENCE * difference / (_LARGEST_DIFFERENCE + difference)


def _band_differences(x: jax.Array, y: jax.Array, display: Display) -> list[jax.Array]:
    """Visible differences (B, 3, h, w) in each band, the base band last."""
    height, width = x.shape[1:3]
    if min(height, width) < _SMALLEST:
        raise JndError(f"CVVDP needs images of at least {_SMALLEST} pixels a side, not {width}x{height}.")
    frequencies = _frequencies(height, width, display.pixels_per_degree)
    # Both images go through the pyramid as one batch: half as much to compile.
    light = _opponent(jnp.concatenate([x, y]), display)
    differences = []
    for frequency, (contrast, background) in zip(frequencies, _contrast_bands(light, len(frequencies))):
        contrast_x, contrast_y = jnp.split(contrast, 2)
        sensitivity = _sensitivity(frequency, background[: len(x)])
        if frequency == _BASE_BAND_FREQUENCY:
            differences.append(sensitivity * jnp.abs(contrast_y - contrast_x))
        else:
            gain = sensitivity * _per_channel(_CHANNEL_GAIN)
            differences.append(_masked_difference(gain * contrast_x, gain * contrast_y))
    return differences


def _lost_jods(difference: jax.Array) -> jax.Array:
    """JODs below 10 of a pooled difference."""
    straight = _JOD_GAIN * _JOD_LINEAR_BELOW ** (_JOD_EXPONENT - 1.0) * difference
    curved = _JOD_GAIN * jnp.maximum(difference, _JOD_LINEAR_BELOW) ** _JOD_EXPONENT
    return jnp.where(difference <= _JOD_LINEAR_BELOW, straight, curved)


def cvvdp_error(x: jax.Array, y: jax.Array, display: Display = STANDARD_FHD) -> jax.Array:
    """JODs that ColorVideoVDP takes off the best quality of 10: 0 for equal images.

    Args:
        x: (B, H, W, 3) originals, sRGB in [0, 1], H and W >= 4.
        y: (B, H, W, 3) distorted images; clipped to [0, 1].
        display: what the images are seen on; static under `jax.jit`.

    Returns:
        (B,), >= 0.

    Raises:
        JndError: a side below 4 pixels.
    """
    bands = [_norm(band, _SPACE_EXPONENT, (2, 3), mean=True) for band in _band_differences(x, y, display)]
    bands[-1] *= np.array(_BASE_BAND_WEIGHT, np.float32)
    channels = _norm(jnp.stack(bands), _BAND_EXPONENT, 0)
    return _lost_jods(_STILL_PICTURE * _norm(channels, _CHANNEL_EXPONENT, 1))


def cvvdp_map(x: jax.Array, y: jax.Array, display: Display = STANDARD_FHD) -> jax.Array:
    """Where the differences are seen: JODs lost at each pixel, (B, H, W), for images as in `cvvdp_error`."""
    bands = _band_differences(x, y, display)
    bands[-1] *= _per_channel(_BASE_BAND_WEIGHT)
    bands = [_norm(_STILL_PICTURE * band, _CHANNEL_EXPONENT, 1)[:, None] for band in bands]
    total = bands.pop()
    for i in reversed(range(len(bands))):
        total = bands[i] / (1.0 if i == 0 else 2.0) + _expand(total, *bands[i].shape[2:])
    return _lost_jods(total[:, 0])


def difference_picture(reference: np.ndarray, distorted: np.ndarray, display: Display = STANDARD_FHD) -> np.ndarray:
    """A map of visible differences to look at: the reference in grey, coloured by the JODs lost at each pixel.

    Blue: none, cyan .25, green .5, yellow .75, red: 1 JOD or more.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.
        display: what the images are seen on.

    Returns:
        (H, W, 3) uint8.
    """
    images = [image[None] / np.float32(255) for image in (reference, distorted)]
    lost = np.asarray(jax.jit(cvvdp_map, static_argnums=2)(*images, display))[0]
    hue = np.stack([np.interp(lost, _MAP_JODS, colour) for colour in np.transpose(_MAP_COLOURS)], -1)
    brightness = 0.25 + 0.75 * (images[0][0] @ LUMA)[..., None]
    return np.rint(255 * hue * brightness).astype(np.uint8)
