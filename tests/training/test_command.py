"""train.py as it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
