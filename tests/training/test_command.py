"""train.py as it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_what_is_compiled_is_kept_for_the_next_run(tmp_path):
    (tmp_path / "config.py").write_text(
        "import jax\nprint(jax.config.jax_compilation_cache_dir)\nfrom configs.smoke import get_config\n"
    )
    command = [sys.executable, ROOT / "train.py", "--config=config.py", "--workdir=run", "--config.data.path=nowhere"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == f"{tmp_path}/cache/jnd_jax/xla\n", done.stderr


@pytest.mark.parametrize(
    "setting,says",
    [
        ("--config.train.quality=300", "train.quality"),
        ("--config.model.latent=10", "latent"),
        ("--config.data.path=nowhere", "nowhere is not a folder"),
    ],
)
def test_a_mistake_costs_a_line_and_status_2(tmp_path, setting, says):
    command = [sys.executable, ROOT / "train.py", f"--config={ROOT}/configs/smoke.py", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, setting], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
