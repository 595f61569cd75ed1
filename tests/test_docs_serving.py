"""The blocks of docs/serving.md, one by one, as a reader runs them.

A line with "not run" is skipped, and so is a block after `<!-- needs: MODULE -->` where the module is not installed.
A block after `<!-- background, needs: MODULE -->` starts a server for the blocks after it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from jnd_jax import zoo

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```sh\n(?P<text>.*?)```", re.S)


def blocks() -> list[tuple[str, str]]:
    """(note, commands to run) of each block that has any."""
    found = []
    for match in BLOCK.finditer((ROOT / "docs" / "serving.md").read_text()):
        joined = match["text"].replace("\\\n", " ")
        lines = [line for line in joined.splitlines() if "not run" not in line]
        if any(lines):
            found.append((match["note"] or "", "\n".join(lines)))
    return found


def environment(folder: Path) -> dict[str, str]:
    """The environment, with a PATH that has the package's command and this Python."""
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in {"jnd-jax": "-m jnd_jax.cli", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def prepare(folder: Path, env: dict[str, str]) -> None:
    """Makes the files that the page takes for granted."""
    photo = Image.open(zoo.FOLDER / "chelsea.png").convert("RGB").resize((192, 128))
    for path in ("photo.png", "photos/a.png", "photos/b.png"):
        (folder / path).parent.mkdir(exist_ok=True)
        photo.save(folder / path)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "pictures").mkdir()
    for target in ("photo.jnd", "pictures/photo.jnd"):
        subprocess.run(["jnd-jax", "encode", "photo.png", "-o", target], cwd=folder, env=env, check=True)


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
def test_the_blocks_run(tmp_path):
    env, servers, ran = environment(tmp_path), [], 0
    prepare(tmp_path, env)
    try:
        for note, text in blocks():
            kind, _, needed = note.partition("needs: ")
            if needed and importlib.util.find_spec(needed) is None:
                continue
            if kind:
                servers.append(subprocess.Popen(["bash", "-c", f"exec {text}"], cwd=tmp_path, env=env))
                wait_for("http://localhost:8080/ready")
                continue
            script = f"set -euo pipefail\n{text}".replace("curl ", "curl -fsS ")
            done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            ran += 1
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    assert ran >= 3
    for module, made in {"uvicorn": "photo.webp", "ray": "store/manifest.jsonl"}.items():
        assert importlib.util.find_spec(module) is None or (tmp_path / made).stat().st_size > 0


def test_one_model_throughout():
    text = (ROOT / "docs" / "serving.md").read_text()
    assert set(re.findall(r"(?:export|serve|--model) (jnd-\w+(?:-\d+)?)", text)) == {zoo.DEFAULT}
