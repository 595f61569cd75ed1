"""The example of docs/training.md runs as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_of_an_own_transform_and_loss_trains(tmp_path):
    text = (ROOT / "docs/training.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=600)
    lines = list(map(json.loads, (tmp_path / "runs/patches/metrics.jsonl").read_text().splitlines()))
    first, last = (next(line for line in order if line["kind"] == "train") for order in (lines, lines[::-1]))
    assert last["loss"] < 0.5 * first["loss"] and last["distortion"] < first["distortion"]
    assert (tmp_path / "runs/patches/model.safetensors").exists()
