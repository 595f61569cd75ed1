"""Images that are coded at once keep a limit of memory together."""

from __future__ import annotations

import threading
import time

import pytest

from jnd_jax.cli import main
from jnd_jax.memory import MemoryBudget, available, counted

from .test_program import PHOTO


@pytest.mark.parametrize(("limit", "together"), [(1e6, 1), (900e6, 2), (None, 3)])
def test_images_wait_for_memory(limit, together, monkeypatch):
    monkeypatch.setattr("jnd_jax.memory.available", lambda: 1.4e9)
    budget, running, most = MemoryBudget(limit), 0, 0
    arrived = threading.Barrier(together, timeout=10)

    def work():
        nonlocal running, most
        with budget.admit() as wait:
            wait(1000, 1000)
            running += 1
            most = max(most, running)
            arrived.wait()
            time.sleep(0.01)
            running -= 1

    threads = [threading.Thread(target=work) for _ in range(2 * together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (most, running) == (together, 0) and not arrived.broken


def test_what_fails_gives_its_memory_back():
    budget = MemoryBudget(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"), budget.admit() as wait:
            wait(8, 8)
            raise ValueError("damaged")
    assert available() > 0


def test_large_images_count_what_lossless_parts_take():
    assert counted(4000, 3000) == 544e6
    # `residual.pack` of 12 megapixels takes 35 bytes a pixel beside two images, most of them in libwebp.
    assert counted(12000, 9000) >= (35 + 3 + 3) * 108e6


def test_a_folder_is_coded_within_a_limit(tmp_path, tiny_model):
    from PIL import Image

    for name in "abc":
        Image.fromarray(PHOTO).save(tmp_path / f"{name}.png")
    options = ["--model", str(tiny_model), "--workers", "3", "--memory", "1"]
    assert main(["encode", str(tmp_path), "-o", f"{tmp_path}/out/", *options]) == 0
    assert main(["decode", f"{tmp_path}/out", "-o", f"{tmp_path}/back/", *options]) == 0
    assert len(list((tmp_path / "back").iterdir())) == 3


def test_an_effort_counts_what_it_takes():
    assert counted(2000, 1500, effort=True) >= (805 + 9) * 1e6  # measured, and the image
    assert counted(6000, 4500, effort=True) >= (1282 + 81) * 1e6
