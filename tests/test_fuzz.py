"""Damaged and hostile files end in one kind of error: the fuzzers' seeds, and every file that once crashed one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz import targets

SEEDS = sorted(path for path in targets.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["plain", "chunks", "grey", "lossless", "deep"])
def test_seeds_are_of_the_format_of_today(name):
    targets.stream((targets.CORPUS / "stream" / name).read_bytes())


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_seeds_and_what_comes_of_them(path):
    data = path.read_bytes()
    targets.check(path.parent.name, data)
    rng = np.random.default_rng(len(data))
    for _ in range(5 if path.parent.name == "stream" else 40):
        damaged = bytearray(data[: rng.integers(len(data) + 1)] if rng.integers(4) == 0 else data)
        for position in rng.integers(0, max(len(damaged), 1), min(len(damaged), 3)):
            damaged[position] = rng.integers(256)
        targets.check(path.parent.name, bytes(damaged))
