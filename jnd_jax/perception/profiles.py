"""Maps of visibility thresholds: how much each pixel of luma may change before people see it.

name      source
chou-li   Chou and Li, IEEE TCSVT 5:467, 1995: the larger of luminance adaptation and contrast masking
yang      Yang et al., Signal Processing: Image Communication 20:662, 2005: both, less their overlap; edges mask little
liu       Liu et al., IEEE TCSVT 20:1648, 2010: structure and texture apart, texture masks more
wu        Wu et al., IEEE TIP 26:2682, 2017: contrast, and pattern complexity; edges mask little
watson    Watson, SPIE 1913:202, 1993: DCT thresholds with luminance and contrast masking, as rms of a block

All are pure, batched functions of luma (B, H, W) in 0..255 to thresholds (B, H, W) in the same units, for `jax.jit`.
Where the published programs pad with zeros or blank the border, these mirror the image.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.perception.colour import LUMA
from jnd_jax.perception.dct import BLOCK
from jnd_jax.perception.watson import watson_slack

Profile = Callable[[jax.Array], jax.Array]

# Chou and Li's weights of the background around a pixel and its four gradients.
_BACKGROUND = (
    np.array(
        [
            [1, 1, 1, 1, 1],
            [1, 2, 2, 2, 1],
            [1, 2, 0, 2, 1],
            [1, 2, 2, 2, 1],
            [1, 1, 1, 1, 1],
        ]
    )
    / 32
)
_HORIZONTAL = np.outer([0, 1, 0, -1, 0], [1, 3, 8, 3, 1]) / 16
_FALLING = (
    np.array(
        [
            [0, 0, 1, 0, 0],
            [0, 8, 3, 0, 0],
            [1, 3, 0, -3, -1],
            [0, 0, -3, -8, 0],
            [0, 0, -1, 0, 0],
        ]
    )
    / 16
)
_GRADIENTS = (_HORIZONTAL, _FALLING, _FALLING[:, ::-1], _HORIZONTAL.T)

_CANNY_SIGMA, _CANNY_LOW = 2**0.5, 0.4
# A flat image has gradients of this size by rounding: in grey levels a pixel.
_CANNY_ROUNDING = 1e-2
_TV_FIDELITY, _TV_STEP, _TV_ITERATIONS = 0.8, 8.0, 100


def luma(x: jax.Array) -> jax.Array:
    """(B, H, W, 3) RGB in [0, 1] -> (B, H, W) full-range BT.601 luma in 0..255."""
    return 255.0 * (x @ jnp.asarray(LUMA, x.dtype))


def _pad(y: jax.Array, rows: int, columns: int) -> jax.Array:
    return jnp.pad(y, ((0, 0), (rows, rows), (columns, columns)), mode="symmetric")


def _shift(y: jax.Array, down: int, right: int, radius: int = 1) -> jax.Array:
    """y[i + down, j + right] of mirrored (B, H, W), for offsets of at most `radius`."""
    height, width = y.shape[1:]
    padded = _pad(y, radius, radius)
    return padded[:, radius + down : radius + down + height, radius + right : radius + right + width]


def _correlate(y: jax.Array, *kernels: np.ndarray) -> jax.Array:
    """Cross-correlations of mirrored (B, H, W) with K kernels of one odd size: (B, H, W, K)."""
    rows, columns = kernels[0].shape
    kernel = jnp.asarray(np.stack(kernels, -1)[:, :, None], y.dtype)
    return jax.lax.conv_general_dilated(
        _pad(y, rows // 2, columns // 2)[..., None],
        kernel,
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """(size, size) weights that add up to 1."""
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def _background(y: jax.Array) -> jax.Array:
    return _correlate(y, _BACKGROUND)[..., 0]


def _gradient(y: jax.Array) -> jax.Array:
    """Largest of the four weighted mean gradients."""
    return jnp.max(jnp.abs(_correlate(y, *_GRADIENTS)), -1)


def _adaptation(background: jax.Array) -> jax.Array:
    """Threshold on a plain background: 20 on black, 3 on middle grey, 6 on white."""
    dark = 17.0 * (1.0 - jnp.sqrt(jnp.minimum(background, 127.0) / 127.0)) + 3.0
    return jnp.where(background <= 127.0, dark, 3.0 / 128.0 * (background - 127.0) + 3.0)


def _masking(gradient: jax.Array, background: jax.Array) -> jax.Array:
    return gradient * (0.0001 * background + 0.115) + 0.5 - 0.01 * background


def _add_up(first: jax.Array, second: jax.Array) -> jax.Array:
    """Nonlinear additivity model for masking (NAMM): the sum less .3 of the smaller."""
    return first + second - 0.3 * jnp.minimum(first, second)


def chou_li(y: jax.Array) -> jax.Array:
    """Thresholds max(LA, Gm alpha + beta) of luma (B, H, W) in 0..255 (Chou and Li 1995, equations 1 to 6)."""
    background = _background(y)
    return jnp.maximum(_adaptation(background), _masking(_gradient(y), background))


def _disk(radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)


def _thin(magnitude: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
    """Where the magnitude of a gradient is no smaller than on both sides along it, between pixels by interpolation."""
    steep = jnp.abs(down) > jnp.abs(right)
    larger = jnp.maximum(jnp.abs(down), jnp.abs(right))
    weight = jnp.minimum(jnp.abs(down), jnp.abs(right)) / jnp.where(larger > 0, larger, 1.0)
    same = down * right >= 0
    greatest = True
    for sign in (1, -1):
        straight = jnp.where(steep, _shift(magnitude, sign, 0), _shift(magnitude, 0, sign))
        other = jnp.where(steep, _shift(magnitude, sign, -sign), _shift(magnitude, -sign, sign))
        diagonal = jnp.where(same, _shift(magnitude, sign, sign), other)
        greatest &= magnitude >= weight * diagonal + (1.0 - weight) * straight
    return greatest


def canny(y: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Edges by Canny's detector with the defaults of MATLAB's `edge`: sigma sqrt(2), lower threshold .4 of the upper.

    Edges grow along weaker edge pixels until none is added, in a loop that `jax.jit` takes and that stops by itself;
    so the result is no approximation, but it has no gradient.

    Args:
        y: (B, H, W).
        threshold: of the gradient relative to its maximum in the image, scalar or (B, 1, 1).

    Returns:
        (B, H, W) bool; False in the outermost rows and columns.
    """
    smooth = _correlate(jax.lax.stop_gradient(y), _gaussian(13, _CANNY_SIGMA))[..., 0]
    sobel = np.outer([-1, 0, 1], [1, 2, 1])
    down, right = jnp.moveaxis(_correlate(smooth, sobel, sobel.T), -1, 0)
    magnitude = jnp.hypot(down, right)
    inside = np.zeros(y.shape[1:], bool)
    inside[1:-1, 1:-1] = True
    upper = threshold * jnp.max(magnitude, (1, 2), keepdims=True)
    ridge = _thin(magnitude, down, right) & (magnitude > _CANNY_ROUNDING) & inside
    weak, strong = ridge & (magnitude >= _CANNY_LOW * upper), ridge & (magnitude >= upper)

    def grow(edges: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        now = edges[1]
        near = jax.lax.reduce_window(now, False, jnp.logical_or, (1, 3, 3), (1, 1, 1), "SAME")
        return now, near & weak

    return jax.lax.while_loop(lambda edges: jnp.any(edges[0] != edges[1]), grow, (jnp.zeros_like(strong), strong))[1]


def _away_from_edges(y: jax.Array, threshold: jax.Array | float, radius: int, blur: int, depth: float) -> jax.Array:
    """1 away from edges, 1 - depth within `radius` of them, blurred by a Gaussian of sigma .8."""
    edges = _correlate(canny(y, threshold).astype(y.dtype), _disk(radius))[..., 0] > 0.5
    return _correlate(1.0 - depth * edges.astype(y.dtype), _gaussian(blur, 0.8))[..., 0]


def yang(y: jax.Array) -> jax.Array:
    """Thresholds LA + T - .3 min(LA, T) of luma (B, H, W) in 0..255, T = Gm W alpha + beta as in the authors' program.

    W is 1 but for .05 within 6 pixels of edges (`canny` at .5), blurred (Yang et al. 2005; the paper's text has
    T = gain Gm W instead).
    """
    background = _background(y)
    gradient = _gradient(y) * _away_from_edges(y, 0.5, radius=6, blur=7, depth=0.95)
    return _add_up(_adaptation(background), _masking(gradient, background))


def structure(y: jax.Array) -> jax.Array:
    """The part of (B, H, W) that minimises sum |grad u| + .8 sum |u - y| (TV-L1): flat areas and edges, no texture.

    100 steps of the primal-dual method of Chambolle and Pock (J. Math. Imaging and Vision 40:120, 2011, section 6.2).
    """
    dual_step = 1.0 / (8.0 * _TV_STEP)

    def step(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        u, ahead, p, q = state
        p += dual_step * jnp.diff(ahead, axis=1, append=ahead[:, -1:])
        q += dual_step * jnp.diff(ahead, axis=2, append=ahead[:, :, -1:])
        length = jnp.maximum(1.0, jnp.hypot(p, q))
        p, q = p / length, q / length
        # p and q are 0 in the last row and column, so that this is minus the adjoint of the differences.
        divergence = jnp.diff(p, axis=1, prepend=0.0) + jnp.diff(q, axis=2, prepend=0.0)
        moved = u + _TV_STEP * divergence - y
        shrunk = y + jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - _TV_STEP * _TV_FIDELITY, 0.0)
        return shrunk, 2.0 * shrunk - u, p, q

    zero = jnp.zeros_like(y)
    return jax.lax.fori_loop(0, _TV_ITERATIONS, step, (y, y, zero, zero))[0]


def liu(y: jax.Array) -> jax.Array:
    """Thresholds of luma (B, H, W) in 0..255 with masking by structure and, twice as strong, by texture (Liu 2010).

    LA + T - .3 min(LA, T), T = .7 clip(Gm_s alpha + beta, 0, 10) + 1.4 clip(Gm_t alpha + beta, 0, 10), Gm_s and Gm_t
    the gradients of `structure` and of the rest.
    """
    background, smooth = _background(y), structure(y)
    masking = [jnp.clip(_masking(_gradient(part), background), 0.0, 10.0) for part in (smooth, y - smooth)]
    return _add_up(_adaptation(background), 0.7 * masking[0] + 1.4 * masking[1])


def pattern_complexity(y: jax.Array) -> jax.Array:
    """(B, H, W) -> number of distinct directions of the gradient in 3x3 pixels, 1 at flat pixels, blurred.

    Directions modulo 180 degrees count in steps of 12 degrees, flat pixels (gradient below 5) as one more.
    """
    kernel = np.outer([-1, 0, 1], [1, 1, 1])
    down, right = jnp.moveaxis(_correlate(y, kernel, kernel.T), -1, 0)
    flat = down**2 + right**2 < (3 * 5.0) ** 2
    degrees = jnp.floor(jnp.degrees(jnp.arctan2(down, right)) + 0.5)
    degrees = jnp.where(degrees > 90, degrees - 180, jnp.where(degrees < -90, degrees + 180, degrees)) + 90
    kind = jnp.where(flat, 16, jnp.floor(degrees / 12 + 0.5).astype(jnp.int32))
    # One bit a kind: the union of a neighbourhood's kinds is their bitwise or.
    bit = jnp.left_shift(1, kind)
    union = bit
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            union |= _shift(bit, i, j)
    count = jnp.where(flat, 1, jax.lax.population_count(union)).astype(y.dtype)
    return _correlate(count, _gaussian(3, 1.0))[..., 0]


def wu(y: jax.Array) -> jax.Array:
    """Thresholds of luma (B, H, W) in 0..255 by contrast masking and pattern masking (Wu 2017, the authors' program).

    LA' + VM - .3 min(LA', VM), VM = max(1.84 s^2.4 / (s^2 + 26^2), .3 s Pc^2.7 / (Pc^2 + 1) E): s the standard
    deviation of 5x5 pixels, Pc the `pattern_complexity`, E 0 within 3 pixels of edges, LA' .7 of the luminance
    adaptation, softened in the dark. The paper's text has another form.
    """
    background = jnp.floor(_background(y))
    raised = jnp.where(background <= 127.0, jnp.floor(32.0 + background * (95.0 / 127.0) + 0.5), background)
    adaptation = 0.7 * _adaptation(raised)

    box = np.full((5, 5), 1 / 25)
    centred = y - jnp.mean(y, (1, 2), keepdims=True)
    variance = _correlate(centred**2, box) - _correlate(centred, box) ** 2
    contrast = jnp.sqrt(jnp.maximum(variance[..., 0], 0.0))
    complexity = pattern_complexity(y)
    steepest = jnp.maximum(jnp.max(_gradient(y), (1, 2), keepdims=True), 1e-3)
    protection = _away_from_edges(y, jnp.minimum(60.0 / steepest, 0.8), radius=3, blur=5, depth=1.0)
    pattern = contrast * 0.3 * complexity**2.7 / (complexity**2 + 1.0) * protection
    masking = jnp.maximum(1.84 * contrast**2.4 / (contrast**2 + 26.0**2), pattern)
    return _add_up(adaptation, masking)


def watson(y: jax.Array) -> jax.Array:
    """Thresholds of luma (B, H, W) in 0..255, equal within 8x8 blocks (Watson 1993, by `watson_slack`).

    The rms change of a block whose 64 DCT coefficients all change by 64^(-1/4) of their slack: together, by Watson's
    pooling with exponent 4, one just-noticeable difference.
    """
    slack = watson_slack(y[..., None])[..., 0, :]
    blocks = jnp.sqrt(jnp.mean(slack**2, -1)) * 64.0 ** (-1 / 4)
    return jnp.repeat(jnp.repeat(blocks, BLOCK, 1), BLOCK, 2)[:, : y.shape[1], : y.shape[2]]


PROFILES: dict[str, Profile] = {"chou-li": chou_li, "yang": yang, "liu": liu, "wu": wu, "watson": watson}


def profile(name: str) -> Profile:
    """The function of a name in `PROFILES`: luma (B, H, W) in 0..255 -> thresholds (B, H, W) in the same units.

    Raises:
        JndError: another name.
    """
    if name not in PROFILES:
        raise JndError(f"No JND profile is named {name!r}: use one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def picture(image: np.ndarray, name: str) -> np.ndarray:
    """A threshold map to look at: (H, W, 3) uint8 image -> grey (H, W, 3) uint8, 8 times the thresholds."""
    thresholds = jax.jit(profile(name))(luma(jnp.float32(image[None]) / 255))[0]
    grey = np.asarray(jnp.clip(jnp.round(8.0 * thresholds), 0, 255), np.uint8)
    return np.repeat(grey[..., None], 3, -1)
