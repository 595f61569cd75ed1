from __future__ import annotations

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def fast_compilation():
    """Nearly all the time of a tiny run is compilation: do it without optimisations, here and in processes started."""
    patch = pytest.MonkeyPatch()
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    patch.undo()
