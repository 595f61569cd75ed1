from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def compile_fast(fast_compilation):
    """Every module here, before its own fixtures."""
