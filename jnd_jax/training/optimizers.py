"""Optimizers and learning-rate schedules by configuration.

An optimizer here gives a descent direction of unit learning rate; the train step multiplies it by `schedule(step)`. So
the schedule may change between a run and its resumption without touching the optimizer's state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jnd_jax.errors import JndError
from jnd_jax.training.soap import scale_by_soap

WITH_WEIGHT_DECAY = ("adamw", "muon")


def learning_rate(config: Mapping[str, Any]) -> Callable[[int], np.float32]:
    """step -> learning rate: linear warm-up, constant, linear decay to zero.

    Reads `learning_rate`, `warmup` (steps), `steps` (of the whole run) and `decay` (the fraction of the run that
    decays) or, where it is not negative, `decay_from_step`.
    """
    steps, warmup = config["steps"], config["warmup"]
    start = config["decay_from_step"] if config["decay_from_step"] >= 0 else round(steps * (1 - config["decay"]))

    def schedule(step: int) -> np.float32:
        rise = min(1.0, (step + 1) / max(1, warmup))
        fall = min(max((steps - step) / max(1, steps - start), 0.0), 1.0)
        return np.float32(config["learning_rate"] * rise * fall)

    return schedule


def _muon_dimensions(params: Any) -> Any:
    """Kernels as (fan-in, fan-out) matrices for Muon: a (kh, kw, in, out) convolution counts kh*kw*in rows."""

    def of(leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if leaf.ndim < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map(of, params)


def path_of(path: Sequence[Any]) -> str:
    """A pytree path as "encoder/Conv_0/kernel"."""
    return "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)


def frozen_labels(params: Any, patterns: Sequence[str]) -> Any:
    """ "frozen" for each parameter whose path a pattern finds (re.search), "train" for the others."""
    hits = {pattern: 0 for pattern in patterns}

    def label(path, _):
        found = [pattern for pattern in patterns if re.search(pattern, path_of(path))]
        for pattern in found:
            hits[pattern] += 1
        return "frozen" if found else "train"

    labels = jax.tree_util.tree_map_with_path(label, params)
    unused = [pattern for pattern, count in hits.items() if not count]
    if unused:
        raise JndError(f"train.freeze names no parameter with {', '.join(unused)}; check the patterns.")
    return labels


def make_optimizer(config: Mapping[str, Any]) -> optax.GradientTransformation:
    """The transformation `config.optimizer` names (adam, adamw, muon, soap, sgd), with clipping and frozen parameters.

    Its updates are for a learning rate of 1: multiply them by `learning_rate(config)(step)`.
    """
    name, (b1, b2) = config["optimizer"], config["betas"]
    if name == "adam":
        core = optax.scale_by_adam(b1, b2)
    elif name == "adamw":
        core = optax.chain(optax.scale_by_adam(b1, b2), optax.add_decayed_weights(config["weight_decay"]))
    elif name == "muon":
        # consistent_rms gives Muon's updates the size of Adam's, so that one learning rate serves both.
        core = optax.chain(
            optax.contrib.muon(
                1.0,
                weight_decay=config["weight_decay"],
                adam_b1=b1,
                adam_b2=b2,
                consistent_rms=0.2,
                muon_weight_dimension_numbers=_muon_dimensions,
            ),
            optax.scale(-1.0),
        )
    elif name == "soap":
        core = scale_by_soap(b1, b2, every=config["soap_every"])
    elif name == "sgd":
        core = optax.identity()
    else:
        raise JndError(f"Unknown optimizer {name!r}; choose adam, adamw, muon, soap or sgd.")
    clip = optax.clip_by_global_norm(config["clip"]) if config["clip"] > 0 else optax.identity()
    transform = optax.chain(clip, core, optax.scale(-1.0))
    patterns = tuple(config["freeze"])
    if not patterns:
        return transform
    return optax.multi_transform(
        {"train": transform, "frozen": optax.set_to_zero()}, lambda params: frozen_labels(params, patterns)
    )
