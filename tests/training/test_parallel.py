"""N devices equal one. XLA fixes its devices at start-up, so that every count runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from jnd_jax.errors import JndError
from jnd_jax.training import packaging, parallel
from tests.training.tiny import write_photos

ROOT = Path(__file__).parents[2]

# Clipping and Adam would hide a gradient counted twice: plain SGD.
SCRIPT = """
import sys
from pathlib import Path
import jax
from jnd_jax.training import packaging, loop
from tests.training.tiny import TinyCodec, tiny_config
folder = Path(sys.argv[1])
for kind in ("pmap", "shard_map"):
    config = tiny_config(folder, optimizer="sgd", clip=0.0, learning_rate=1e-6, decay=0.0, parallel=kind)
    loop.train_and_evaluate(config, folder / f"{kind}{jax.device_count()}", model=TinyCodec())
packaging.export_model(loop.initial_params(config, TinyCodec()), folder / "start.safetensors", TinyCodec())
"""


def parameters(path):
    return traverse_util.flatten_dict(packaging.load_model_params(path), sep="/")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the runs of one and of eight devices, by both ways to parallelize."""
    folder = tmp_path_factory.mktemp("parallel")
    write_photos(folder / "photos")
    for devices in (1, 8):
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", SCRIPT, folder], env=environment, check=True, timeout=600)
    return folder


@pytest.mark.parametrize("kind,devices", [("shard_map", 1), ("pmap", 8), ("shard_map", 8)])
def test_many_devices_train_as_one(folder, kind, devices):
    one_device = parameters(folder / "pmap1/model.safetensors")
    start = parameters(folder / "start.safetensors")
    for path, value in parameters(folder / f"{kind}{devices}/model.safetensors").items():
        scale = np.linalg.norm(one_device[path])
        assert np.linalg.norm(value - one_device[path]) <= 1e-5 * scale, path
        # Had the devices' gradients been summed instead of averaged, the change would be N times this one.
        change = np.linalg.norm(one_device[path] - start[path])
        assert change > 1e-4 * scale
        assert np.linalg.norm(value - one_device[path]) <= 1e-2 * change, path


def test_an_unknown_way_to_parallelize_names_the_known_ones():
    with pytest.raises(JndError, match="pmap or shard_map"):
        parallel.parallelize(lambda state, batch: (state, {}), "pjit")
