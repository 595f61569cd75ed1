"""Training losses: pure functions of images, rate and lambda that know no model.

`make_loss` builds the one that a config names:

name                  loss (d: the config's `distance`)                     also in the config
rate_distortion       R + lambda d(x, x_hat)
pixel_wise            R + lambda d(x_jnd, x_hat)
pixel_wise_threshold  R + lambda 255^2 mean max(0, |x - x_hat| - T)^2       profile, jnds
image_wise            R + lambda (d(x, x_hat) - d(x, x_jnd))
image_wise_hinge      R + lambda max(0, d(x, x_hat) - r d(x, x_jnd))        jnds (0: follows the quality, 3 to .25)
feature_wise          R + lambda (w d + (1 - w) s MSE(phi))                 network, weights, blocks, weight, scale
feature_wise_jnd      R + lambda (w d + (1 - w) d(x, x_jnd) F)              network, weights, blocks, weight
combine               R + lambda sum w_i D_i                                terms, term_weights, balance
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jnd_jax.errors import JndError
from jnd_jax.losses.combine import Term, combine
from jnd_jax.losses.distances import make_distance, squared_error
from jnd_jax.losses.feature_wise import feature_wise, feature_wise_jnd
from jnd_jax.losses.image_wise import budget_of_quality, image_wise, image_wise_hinge
from jnd_jax.losses.pixel_wise import pixel_wise, pixel_wise_threshold
from jnd_jax.losses.rate_distortion import rate_distortion
from jnd_jax.perception.features import Features, efficientnet_lite0, vgg16
from jnd_jax.perception.profiles import luma, profile

Loss = Callable[[Mapping[str, jax.Array], jax.Array, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "rate_distortion": {},
    "pixel_wise": {},
    "pixel_wise_threshold": {"profile": "watson", "jnds": 1.0},
    "image_wise": {},
    "image_wise_hinge": {"jnds": 0.0},
    "feature_wise": {"network": "efficientnet-lite0", "weights": "", "blocks": (0, 2, 4), "weight": 0.9, "scale": 1.0},
    "feature_wise_jnd": {"network": "efficientnet-lite0", "weights": "", "blocks": (0, 2, 4), "weight": 0.5},
    "combine": {"terms": (), "term_weights": (), "balance": False},
}


def _network(options: Mapping[str, Any]) -> Features:
    if options["network"] == "vgg16":
        return vgg16(options["weights"])
    if options["network"] == "efficientnet-lite0":
        return efficientnet_lite0(tuple(options["blocks"]), options["weights"] or None)
    raise JndError(f"no feature network is named {options['network']!r}: use vgg16 or efficientnet-lite0")


def _jnd(batch: Mapping[str, jax.Array]) -> jax.Array:
    if "jnd" not in batch:
        raise JndError("this loss needs just-noticeable images: set data.jnd_path (`jnd-jax targets` makes them)")
    return batch["jnd"]


def _term(config: Mapping[str, Any]) -> Term:
    config = dict(config)
    name = config.pop("name", None)
    if name not in _DEFAULTS:
        raise JndError(f"no loss is named {name!r}: use one of {', '.join(_DEFAULTS)}")
    distance = make_distance(config.pop("distance", "mse"))
    unknown = config.keys() - _DEFAULTS[name].keys()
    if unknown:
        raise JndError(
            f"the loss {name} has no option {', '.join(sorted(unknown))}; it has distance, {', '.join(_DEFAULTS[name])}"
        )
    options = _DEFAULTS[name] | config

    if name == "rate_distortion":
        return lambda batch, y, bpp, lmbda: rate_distortion(batch["image"], y, bpp, lmbda, distance)
    if name == "pixel_wise":
        return lambda batch, y, bpp, lmbda: pixel_wise(_jnd(batch), y, bpp, lmbda, distance)
    if name == "pixel_wise_threshold":
        threshold = profile(options["profile"])
        scale = float(options["jnds"]) / 255.0
        return lambda batch, y, bpp, lmbda: pixel_wise_threshold(
            batch["image"], y, scale * threshold(luma(batch["image"])), bpp, lmbda
        )
    if name == "image_wise":
        return lambda batch, y, bpp, lmbda: image_wise(batch["image"], y, _jnd(batch), bpp, lmbda, distance)
    if name == "image_wise_hinge":
        jnds = lambda batch: float(options["jnds"]) or budget_of_quality(batch["quality"])
        return lambda batch, y, bpp, lmbda: image_wise_hinge(
            batch["image"], y, _jnd(batch), bpp, lmbda, jnds(batch), distance
        )
    if name == "feature_wise":
        network = _network(options)
        return lambda batch, y, bpp, lmbda: feature_wise(
            batch["image"], y, _jnd(batch), bpp, lmbda, network, options["weight"], options["scale"], distance
        )
    if name == "feature_wise_jnd":
        network = _network(options)
        return lambda batch, y, bpp, lmbda: feature_wise_jnd(
            batch["image"], y, _jnd(batch), bpp, lmbda, network, options["weight"], distance
        )
    terms, weights = options["terms"], options["term_weights"]
    if not terms or len(weights) not in (0, len(terms)):
        raise JndError("give the loss combine its terms, and a term_weights for each or none")
    return combine([_term(term) for term in terms], weights or (1.0 / len(terms),) * len(terms), options["balance"])


def make_loss(config: Mapping[str, Any]) -> Loss:
    """The loss that `config` describes: {"name": ..., "distance": ..., and the options of the table above}.

    `distance` is a name in `jnd_jax.losses.distances.DISTANCES` or several with weights; all are scaled to the size of
    255^2 * MSE, so one lambda serves all of them.

    Returns:
        (batch, x_hat, bpp, lmbda) -> ((B,) losses, {"distortion": (B,), "mse_255": (B,)}), where batch holds "image"
        (B, H, W, 3) in [0, 1], "quality" (B,) and, for losses with x_jnd, "jnd".

    Raises:
        JndError: unknown names or options, missing weights; when called, a batch without "jnd" where it is needed.
    """
    term = _term(config)

    def loss(batch, x_hat, bpp, lmbda):
        value = term(batch, x_hat, bpp, lmbda)
        return value, {"distortion": (value - bpp) / lmbda, "mse_255": squared_error(batch["image"], x_hat)}

    return loss
