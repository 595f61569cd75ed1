"""A run that is killed goes on where its last checkpoint stands, to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from jnd_jax.training import checkpoint, packaging
from tests.training.tiny import write_photos

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, time
from pathlib import Path
from jnd_jax.training import loop
from tests.training.tiny import TinyCodec, tiny_config
folder, workdir, steps, pause = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
config = tiny_config(folder, optimizer="adam", steps=steps)
config.checkpoint.every_steps = 7
scalars = loop.Log.scalars
def slower(self, *values):
    scalars(self, *values)
    time.sleep(pause)
loop.Log.scalars = slower
loop.train_and_evaluate(config, workdir, model=TinyCodec())
"""


def start(folder, workdir, steps, pause=0.0):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, folder, workdir, str(steps), str(pause)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def parameters(workdir):
    return traverse_util.flatten_dict(packaging.load_model_params(workdir / "model.safetensors"), sep="/")


def assert_same(a, b):
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path])


def wait_for_steps(process, workdir, timeout=120):
    begun = time.time()
    while not (workdir / "metrics.jsonl").exists() or not (workdir / "metrics.jsonl").read_text():
        assert process.poll() is None and time.time() - begun < timeout
        time.sleep(0.05)


def test_sigterm_saves_a_checkpoint_and_ends_with_success(tmp_path):
    write_photos(tmp_path / "photos")
    process = start(tmp_path, tmp_path / "run", 100_000, 0.2)
    wait_for_steps(process, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with checkpoint.read_manager(tmp_path / "run") as manager:
        assert 5 <= manager.latest_step() < 100_000


@pytest.mark.slow
def test_sigkill_at_any_moment_costs_only_the_steps_since_the_last_checkpoint(tmp_path):
    write_photos(tmp_path / "photos")
    assert start(tmp_path, tmp_path / "whole", 200).wait() == 0
    chance = random.Random(0)
    for _ in range(8):
        process = start(tmp_path, tmp_path / "killed", 200, 0.2)
        time.sleep(chance.uniform(2.0, 14.0))
        process.kill()
        process.wait()
    assert start(tmp_path, tmp_path / "killed", 200).wait() == 0
    assert_same(parameters(tmp_path / "whole"), parameters(tmp_path / "killed"))
