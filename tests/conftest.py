from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.models import write_tiny_model
from tests.photos import photo_crops

# Most of the tests' time is compiling, which takes less than half without LLVM's optimisations. jax reads this at its start.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()


def pytest_configure(config):
    # One cache for all workers, and for the programs that tests start: they compile much the same.
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory()
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
        config.add_cleanup(folder.cleanup)


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


@pytest.fixture(scope="module")
def fast_compilation():
    """Nearly all the time of a tiny run is compilation: it is done without optimisations, here and in the processes that
    tests start, and all of it is kept.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {"jax_disable_most_optimizations": True, "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
