"""Feature-wise JND distortions: a frozen network's view of the reconstruction."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jnd_jax.losses.distances import Distance, squared_error
from jnd_jax.perception.features import Features


def feature_wise(
    x: jax.Array,
    x_hat: jax.Array,
    x_jnd: jax.Array,
    features: Features,
    weight: float = 0.9,
    scale: float = 1.0,
    distance: Distance = squared_error,
) -> jax.Array:
    """FWL: w * d(x, x_hat) + (1 - w) * s * MSE(phi(x_hat), phi(x_jnd)).

    Pakdaman, Nami, Gabbouj (ICIP 2024) have w = .9, s = 1 and phi = VGG16's relu5_3 (`features.vgg16`). There the
    feature term is of the order of .01 to 1 beside a d of 10 to 80, so that the loss is nearly that of d alone with
    a lambda of .9; give s a value that makes both terms alike. Several depths count equally.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions.
        x_jnd: (B, H, W, 3) just-noticeable versions of x.
        features: phi, see `jnd_jax.perception.features`.
        weight: w.
        scale: s.
        distance: d, see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    pairs = list(zip(features(x_hat), jax.lax.stop_gradient(features(x_jnd))))
    error = sum(jnp.mean((a - b) ** 2, (1, 2, 3)) for a, b in pairs) / len(pairs)
    return weight * distance(x, x_hat) + (1.0 - weight) * scale * error


def feature_wise_jnd(
    x: jax.Array,
    x_hat: jax.Array,
    x_jnd: jax.Array,
    features: Features,
    weight: float = 0.5,
    distance: Distance = squared_error,
) -> jax.Array:
    """w * d(x, x_hat) + (1 - w) * d(x, x_jnd) * F, with feature errors counted in JNDs.

        F = mean over depths and channels of  mean (phi_c(x_hat) - phi_c(x))^2 / (mean (phi_c(x_jnd) - phi_c(x))^2 + e)

    Each channel is divided by what one just-noticeable difference does to it (e: a tenth of its depth's mean, against
    channels that do not move), so a channel counts as much as people's eyes make it count, and F = 1 means one JND;
    d(x, x_jnd) gives the term the size of the other one, whatever network is used.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions.
        x_jnd: (B, H, W, 3) just-noticeable versions of x.
        features: phi, see `jnd_jax.perception.features`.
        weight: w.
        distance: d, see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    depths = list(zip(features(x_hat), features(x), features(x_jnd)))
    total = 0.0
    for ours, original, jnd in depths:
        one_jnd = jnp.mean((jnd - original) ** 2, (1, 2))
        floor = 0.1 * jnp.mean(one_jnd, -1, keepdims=True) + 1e-9
        unit = jax.lax.stop_gradient(one_jnd + floor)
        error = (ours - jax.lax.stop_gradient(original)) ** 2
        total += jnp.mean(jnp.mean(error, (1, 2)) / unit, -1) / len(depths)
    budget = jax.lax.stop_gradient(distance(x, x_jnd))
    return weight * distance(x, x_hat) + (1.0 - weight) * budget * total
