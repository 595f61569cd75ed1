"""Two processes of four devices each, joined over loopback, train as one process does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from jnd_jax.errors import JndError
from jnd_jax.training import checkpoint, packaging
from jnd_jax.training.parallel import connect
from tests.training.tiny import write_photos

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, sys, time
from pathlib import Path
from jnd_jax.training import loop, parallel
from tests.training.tiny import TinyCodec, tiny_config
folder, workdir, kind, steps, pause = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
parallel.connect(sys.argv[6], 2, int(sys.argv[7]))
config = tiny_config(folder, optimizer="sgd", clip=0.0, learning_rate=1e-6, decay=0.0, steps=steps, parallel=kind)
config.checkpoint.every_steps = 10
from jnd_jax.errors import JndError
progress = loop.Log.progress
def slower(self, *values):
    progress(self, *values)
    time.sleep(pause)
loop.Log.progress = slower
try:
    loop.train_and_evaluate(config, workdir, model=TinyCodec())
except JndError as error:
    print(error, file=sys.stderr, flush=True)
    os._exit(2)
"""


def start(folder, workdir, kind, steps, pause=0.0, processes=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={8 // processes}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, folder, workdir, kind, str(steps), str(pause)]
    address = address if processes > 1 else ""
    return [subprocess.Popen([*command, address, str(i)], env=environment) for i in range(processes)]


def end(processes, timeout=1800):
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


def wait_for_steps(processes, workdir, timeout=1800):
    begun = time.time()
    while not (workdir / "metrics.jsonl").exists() or not (workdir / "metrics.jsonl").read_text():
        assert time.time() - begun < timeout and all(process.poll() is None for process in processes)
        time.sleep(0.1)


def parameters(workdir):
    return traverse_util.flatten_dict(packaging.load_model_params(workdir / "model.safetensors"), sep="/")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_two_processes_train_as_one_and_resume(tmp_path, kind):
    write_photos(tmp_path / "photos")
    assert end(start(tmp_path, tmp_path / "one", kind, 20, processes=1)) == [0]
    assert end(start(tmp_path, tmp_path / "two", kind, 10)) == [0, 0]
    (tmp_path / "two/model.safetensors").unlink()
    assert end(start(tmp_path, tmp_path / "two", kind, 20)) == [0, 0]
    one, two = parameters(tmp_path / "one"), parameters(tmp_path / "two")
    for path in one:
        assert np.linalg.norm(one[path] - two[path]) <= 1e-5 * np.linalg.norm(one[path]), path


@pytest.mark.slow
def test_a_sigterm_to_one_process_stops_all_at_one_checkpoint(tmp_path):
    write_photos(tmp_path / "photos")
    processes = start(tmp_path, tmp_path / "run", "pmap", 100_000, 0.3)
    wait_for_steps(processes, tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)
    assert end(processes, 100) == [0, 0]
    assert checkpoint.load_params(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_within_a_minute(tmp_path, killed):
    write_photos(tmp_path / "photos")
    processes = start(tmp_path, tmp_path / "run", "pmap", 100_000, 0.1)
    wait_for_steps(processes, tmp_path / "run")
    processes[killed].kill()
    begun = time.time()
    _, status = sorted(end(processes, 100))
    assert status > 0 or killed == 0
    assert time.time() - begun < 60


def test_a_process_beyond_their_number_is_refused():
    with pytest.raises(JndError, match="--process"):
        connect("127.0.0.1:1", 2, 2)


def test_a_cluster_that_is_not_there_is_said_in_one_sentence():
    code = "from jnd_jax.training.parallel import connect; connect('auto')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("jnd_jax.errors.JndError: No cluster was found")
