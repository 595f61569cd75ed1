"""train.py and the modules beside it, as they are called."""

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


CONFIG = """
from ml_collections import ConfigDict
def get_config(arm="one"):
    return ConfigDict(dict(steps={"one": 1}[arm]))
"""
READS_A_CONFIG = """
import sys
from ml_collections import config_flags
from jnd_jax.training.commandline import parse
config_flags.DEFINE_config_file("config", None, "", lock_config=True)
parse("it", sys.argv)
"""


@pytest.mark.parametrize(
    "config,argument,says",
    [
        (CONFIG, "--config.steps=2", None),
        (CONFIG, "--config.stairs=2", "no setting 'stairs'"),
        (CONFIG, "--config.steps=two", "invalid literal"),
        (CONFIG, "--configuration=2", "Unknown command line flag"),
        (CONFIG, "--config=config.py:two", "config.py, line 4: KeyError"),
        (CONFIG, "--config=other.py", "No such file or directory: 'other.py'"),
        ("def get_config(:", "--config.steps=2", "invalid syntax"),
        ("import nonesuch", "--config.steps=2", "config.py, line 1: ModuleNotFoundError"),
        ("steps = 1", "--config.steps=2", "no function get_config"),
    ],
)
def test_a_config_that_cannot_be_read_costs_a_line_and_status_2(tmp_path, config, argument, says):
    (tmp_path / "config.py").write_text(config)
    command = [sys.executable, "-c", READS_A_CONFIG, "--config=config.py", argument]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    if says is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2 and says in done.stderr
        assert done.stderr.startswith("it: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command,says",
    [
        (["ahead", f"--config={ROOT}/configs/smoke.py", "--config.train.quality=300"], "train.quality"),
        (["packaging", "jnd-base", "--card=nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_a_mistake_in_the_other_commands_costs_a_line_too(tmp_path, command, says):
    name, *arguments = command
    if name == "ahead":
        arguments += ["--crop=64", "--batch=2"]
    output = tmp_path / "out.safetensors"
    command = [sys.executable, "-m", f"jnd_jax.training.{name}", *arguments, "-o", output]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and says in done.stderr and done.stderr.startswith(f"{name}: ")
    assert done.stderr.count("\n") == 1 and not output.exists()
