from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.models import write_tiny_model
from tests.photos import photo_crops

# Most of the tests' time is compiling, which takes less than half without LLVM's optimisations. jax reads this at its start.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Path of a small untrained model that codes."""
    path = tmp_path_factory.mktemp("models") / "jnd-tiny-1.safetensors"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def golden_model():
    """Path of the frozen model that wrote the golden streams."""
    return Path(__file__).parent / "golden" / "tiny.safetensors"


@pytest.fixture(scope="session")
def photos():
    """See `tests.photos.photo_crops`."""
    pytest.importorskip("skimage")
    return photo_crops()
