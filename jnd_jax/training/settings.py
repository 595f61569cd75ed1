"""What a config says, checked before anything is computed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jnd_jax.codec.hyper import QUALITY_MAX
from jnd_jax.codec.linear import FOOTPRINT
from jnd_jax.errors import JndError
from jnd_jax.training.optimizers import WITH_WEIGHT_DECAY


class Stage(NamedTuple):
    """Steps `first` to `last` - 1 of a run, with their crop side and global batch."""

    first: int
    last: int
    crop: int
    batch: int


def _are_integers(values: Any, count: int | None = None) -> bool:
    sequence = isinstance(values, (tuple, list)) and (count is None or len(values) == count)
    return sequence and all(isinstance(value, (int, np.integer)) for value in values)


def _is_quality_range(values: Any) -> bool:
    return _are_integers(values, 2) and 0 <= values[0] <= values[1] <= QUALITY_MAX


def _losses(loss: Any) -> list[str]:
    """Names of a loss and of its terms."""
    return [str(loss.get("name")), *(name for term in loss.get("terms", ()) for name in _losses(term))]


_LEAST = {"train.accumulate": 1, "train.power": 0.01, "log_every": 1, "data.threads": 1, "eval.images": 1}


def check(config: ConfigDict) -> None:
    """Raises JndError for values that cannot be, with what can be in their place."""
    train, evaluation = config.train, config.eval
    if not _is_quality_range(train.quality):
        raise JndError(f"train.quality is {train.quality!r}; give it two integers of 0 to 1000, such as (300, 700).")
    if not (
        evaluation.qualities
        and _are_integers(evaluation.qualities)
        and all(0 <= q <= QUALITY_MAX for q in evaluation.qualities)
    ):
        raise JndError(f"eval.qualities is {evaluation.qualities!r}; give it integers of 0 to 1000, such as (300,).")
    if not (isinstance(train.stages, (tuple, list)) and all(_are_integers(stage, 3) for stage in train.stages)):
        raise JndError(
            f"train.stages is {train.stages!r}; give it (steps, crop, batch) each, such as ((2000, 128, 16),)."
        )
    if not (isinstance(train.betas, (tuple, list)) and len(train.betas) == 2):
        raise JndError(f"train.betas is {train.betas!r}; give it two numbers, such as (0.9, 0.999).")
    if train.stages and train.steps:
        raise JndError(
            f"train.steps is {train.steps} beside train.stages, which name their steps themselves; set train.steps=0, or "
            "train.stages='()'."
        )
    if train.power != 1 and "image_wise" in _losses(config.loss):
        raise JndError("The loss image_wise may be negative, of which there is no power; set train.power=1.")
    if train.weight_decay and train.optimizer not in WITH_WEIGHT_DECAY:
        raise JndError(
            f"{train.optimizer} has no weight decay; set train.weight_decay=0, or use {' or '.join(WITH_WEIGHT_DECAY)}."
        )
    if not isinstance(train.freeze, (tuple, list)):
        raise JndError(f"train.freeze is {train.freeze!r}; give it a tuple of patterns, such as ('synthesis',).")
    if train.compiled and train.parallel != "shard_map":
        raise JndError(f"train.compiled needs train.parallel=shard_map, not {train.parallel}; set both.")
    for name, least in _LEAST.items():
        value: Any = config
        for part in name.split("."):
            value = value[part]
        if value < least:
            raise JndError(f"{name} is {value}; give it at least {least}.")


def stages(config: ConfigDict, devices: int) -> list[Stage]:
    """The run's stages: `train.stages`, tuples (steps, crop, batch), or one stage of `train.steps`.

    Args:
        config: as in configs/base.py.
        devices: of all processes.

    Raises:
        JndError: crops that the models cannot take, batches that do not divide among the devices.
    """
    listed = config.train.stages or ((config.train.steps, config.data.crop, config.data.batch),)
    parts = devices * config.train.accumulate
    for _, crop, batch in listed:
        if crop <= 0 or crop % FOOTPRINT:
            raise JndError(f"A crop of {crop} cannot be; give data.crop a multiple of {FOOTPRINT}.")
        if batch <= 0 or batch % parts:
            raise JndError(
                f"A batch of {batch} does not divide among {devices} devices times "
                f"train.accumulate={config.train.accumulate}; give data.batch a multiple of {parts}."
            )
    ends = np.cumsum([0] + [steps for steps, _, _ in listed])
    return [Stage(int(a), int(b), crop, batch) for a, b, (_, crop, batch) in zip(ends, ends[1:], listed)]
