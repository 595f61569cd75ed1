"""examples.paper as it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_folder_without_pairs_costs_a_line(tmp_path, golden_model):
    command = [sys.executable, "-m", "examples.paper", "--data", tmp_path, "--workdir", tmp_path / "run"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command += ["--weights", golden_model]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Ref is not a folder" in done.stderr
