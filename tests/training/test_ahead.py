from __future__ import annotations

import jax
import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.training import ahead, loop
from tests.models import CONFIG
from tests.training.tiny import tiny_config, write_photos


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ahead")
    write_photos(folder / "photos")
    config = tiny_config(folder, stages=((6, 64, 2),), parallel="shard_map")
    config.model.update(CONFIG)
    return config


@pytest.fixture(scope="module")
def step(config, tmp_path_factory):
    file = tmp_path_factory.mktemp("step") / "step.here"
    file.write_bytes(ahead.compile_step(config, 64, 2, jax.devices()[:1]))
    return file


def test_a_run_with_a_step_compiled_ahead_is_the_same_run(config, step, tmp_path):
    here = loop.train_and_evaluate(config, tmp_path / "here")
    ahead_of_time = config.copy_and_resolve_references()
    ahead_of_time.train.compiled = str(step)
    there = loop.train_and_evaluate(ahead_of_time, tmp_path / "there")
    for a, b in zip(jax.tree.leaves(here.ema), jax.tree.leaves(there.ema), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_step_for_another_batch_is_refused(config, step, tmp_path):
    config = config.copy_and_resolve_references()
    config.train.update(compiled=str(step), stages=((6, 64, 4),))
    with pytest.raises(JndError, match="compiled for a batch"):
        loop.train_and_evaluate(config, tmp_path)
    config.train.parallel = "pmap"
    with pytest.raises(JndError, match="shard_map"):
        loop.train_and_evaluate(config, tmp_path)
    config.train.update(compiled=__file__, parallel="shard_map")
    with pytest.raises(JndError, match="no compiled step"):
        loop.train_and_evaluate(config, tmp_path)
