"""Training losses: pure functions (batch, x_hat) -> D that know neither rate nor model.

A loss returns the distortion D of each example; the train step forms R + lambda D. All D are scaled to the size of
255^2 * MSE, so that one lambda serves all of them. `make_loss` builds the loss that a config names:

name                  D (d: the option `distance`)                      further options
rate_distortion       d(x, x_hat)
pixel_wise            d(x_jnd, x_hat)
pixel_wise_threshold  255^2 mean max(0, |x - x_hat| - T)^2              profile, jnds
image_wise            d(x, x_hat) - d(x, x_jnd)
image_wise_hinge      max(0, d(x, x_hat) - r d(x, x_jnd))               jnds (0: follows the quality, 3 to .25)
jod_budget            d(x, x_hat) + w s max(0, JODs lost - JODs at r)   jnds (0: follows the quality, 3 to .25), weight w
feature_wise          w d(x, x_hat) + (1 - w) s MSE(phi)                network, weights, blocks, weight, scale
feature_wise_jnd      w d(x, x_hat) + (1 - w) d(x, x_jnd) F             network, weights, blocks, weight
combine               sum w_i D_i                                       terms, term_weights, balance
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jnd_jax.errors import JndError
from jnd_jax.imports import imported, is_import_path
from jnd_jax.losses.combine import Loss, combine
from jnd_jax.losses.distances import DISTANCES, Distance, make_distance
from jnd_jax.losses.feature_wise import feature_wise, feature_wise_jnd
from jnd_jax.losses.image_wise import budget_of_quality, image_wise, image_wise_hinge, jod_budget
from jnd_jax.losses.pixel_wise import pixel_wise, pixel_wise_threshold
from jnd_jax.perception.features import Features, efficientnet_lite0, vgg16
from jnd_jax.perception.profiles import luma, profile

Options = Mapping[str, Any]


def _network(options: Options) -> Features:
    if options["network"] == "vgg16":
        return vgg16(options["weights"])
    if options["network"] == "efficientnet-lite0":
        return efficientnet_lite0(tuple(options["blocks"]), options["weights"] or None)
    raise JndError(f"No feature network is named {options['network']!r}; use vgg16 or efficientnet-lite0.")


def _jnd(batch: Mapping[str, jax.Array]) -> jax.Array:
    if "jnd" not in batch:
        raise JndError("This loss needs just-noticeable images; set data.jnd_path (`jnd-jax targets` makes them).")
    return batch["jnd"]


def _rate_distortion(distance: Distance, options: Options) -> Loss:
    return lambda batch, y: distance(batch["image"], y)


def _pixel_wise(distance: Distance, options: Options) -> Loss:
    return lambda batch, y: pixel_wise(_jnd(batch), y, distance)


def _pixel_wise_threshold(distance: Distance, options: Options) -> Loss:
    threshold, scale = profile(options["profile"]), float(options["jnds"]) / 255.0
    return lambda batch, y: pixel_wise_threshold(batch["image"], y, scale * threshold(luma(batch["image"])))


def _image_wise(distance: Distance, options: Options) -> Loss:
    return lambda batch, y: image_wise(batch["image"], y, _jnd(batch), distance)


def _budget(options: Options) -> Callable[[Mapping[str, jax.Array]], Any]:
    return lambda batch: float(options["jnds"]) or budget_of_quality(batch["quality"])


def _image_wise_hinge(distance: Distance, options: Options) -> Loss:
    jnds = _budget(options)
    return lambda batch, y: image_wise_hinge(batch["image"], y, _jnd(batch), jnds(batch), distance)


def _jod_budget(distance: Distance, options: Options) -> Loss:
    jnds = _budget(options)
    weight = options["weight"] * DISTANCES["cvvdp"][1]
    return lambda batch, y: distance(batch["image"], y) + weight * jod_budget(batch["image"], y, jnds(batch))


def _feature_wise(distance: Distance, options: Options) -> Loss:
    network, weight, scale = _network(options), options["weight"], options["scale"]
    return lambda batch, y: feature_wise(batch["image"], y, _jnd(batch), network, weight, scale, distance)


def _feature_wise_jnd(distance: Distance, options: Options) -> Loss:
    network, weight = _network(options), options["weight"]
    return lambda batch, y: feature_wise_jnd(batch["image"], y, _jnd(batch), network, weight, distance)


def _combine(distance: Distance, options: Options) -> Loss:
    terms, weights = options["terms"], options["term_weights"]
    if not terms or len(weights) not in (0, len(terms)):
        raise JndError("The loss combine needs terms; give it some, and a term_weights for each or none.")
    return combine([make_loss(term) for term in terms], weights or (1.0 / len(terms),) * len(terms), options["balance"])


class _Kind(NamedTuple):
    make: Callable[[Distance, Options], Loss]
    defaults: Options
    has_distance: bool = True


_NETWORK = {"network": "efficientnet-lite0", "weights": "", "blocks": (0, 2, 4)}
_LOSSES = {
    "rate_distortion": _Kind(_rate_distortion, {}),
    "pixel_wise": _Kind(_pixel_wise, {}),
    "pixel_wise_threshold": _Kind(_pixel_wise_threshold, {"profile": "watson", "jnds": 1.0}, False),
    "image_wise": _Kind(_image_wise, {}),
    "image_wise_hinge": _Kind(_image_wise_hinge, {"jnds": 0.0}),
    "jod_budget": _Kind(_jod_budget, {"jnds": 0.0, "weight": 1.0}),
    "feature_wise": _Kind(_feature_wise, {**_NETWORK, "weight": 0.9, "scale": 1.0}),
    "feature_wise_jnd": _Kind(_feature_wise_jnd, {**_NETWORK, "weight": 0.5}),
    "combine": _Kind(_combine, {"terms": (), "term_weights": (), "balance": False}, False),
}


def settings(name: str, **changes: Any) -> dict[str, Any]:
    """The config of a loss, `changes` and every other option at its default: what an experiment's config starts from.

    Raises:
        JndError: no loss has this name.
    """
    kind = _kind(name)
    return {"name": name} | ({"distance": "mse"} if kind.has_distance else {}) | {**kind.defaults, **changes}


def _kind(name: Any) -> _Kind:
    if name not in _LOSSES:
        raise JndError(
            f"No loss is named {name!r}; use one of {', '.join(_LOSSES)}, or the import path of your own: "
            "package.module:function."
        )
    return _LOSSES[name]


def make_loss(config: Mapping[str, Any]) -> Loss:
    """The loss that `config` describes.

    Args:
        config: {"name": ..., "distance": ..., and the options of the table above}. `distance` is a name in
            `jnd_jax.losses.distances.DISTANCES`, the import path of an own one, or several names with weights. `name` may
            be the import path of a function (batch, x_hat, **options) -> D, which has no distance.

    Returns:
        (batch, x_hat) -> (B,) distortions. batch holds "image" (B, H, W, 3) in [0, 1], "quality" (B,) in 0..1000 and,
        for losses with x_jnd, "jnd" like "image"; x_hat is (B, H, W, 3), not clipped.

    Raises:
        JndError: unknown names or options, missing weights; when called, a batch without "jnd" where it is needed.
    """
    given = dict(config)
    name = given.pop("name", None)
    if is_import_path(name):
        given.pop("distance", None)
        return functools.partial(imported(name), **given)
    make, defaults, has_distance = _kind(name)
    known = ["distance"] * has_distance + list(defaults)
    if unknown := sorted(given.keys() - set(known)):
        raise JndError(f"The loss {name} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    return make(make_distance(given.pop("distance", "mse")), {**defaults, **given})
