"""What the tests of serving share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import golden

# In a process that cannot import jax. The limit is the lowest that an export can have.
EXPORT = """
import sys
sys.modules["jax"] = None
from jnd_jax.cli import main
sys.exit(main(["export", sys.argv[1], "-o", sys.argv[2], "--max-megapixels", "0.4"]))
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """Folder with a SavedModel of the golden model, made without jax, with all signatures that the environment allows."""
    folder = tmp_path_factory.mktemp("export") / "out"
    root = golden.FOLDER.parents[1]
    subprocess.run([sys.executable, "-c", EXPORT, golden.MODEL, folder], cwd=root, check=True)
    return folder
