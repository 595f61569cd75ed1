import os
import subprocess
import sys
import threading

import pytest
from PIL import Image

from jnd_jax import zoo
from jnd_jax.cli import main
from jnd_jax.devices import spread


def test_results_come_in_order_from_so_many_threads():
    running, most, lock = set(), [], threading.Lock()
    together, second = threading.Barrier(3), threading.Event()

    def work(n):
        with lock:
            running.add(n)
            most.append(len(running))
        if n < 3:
            together.wait(60)  # breaks unless three run at once
        if n == 0:
            assert second.wait(60)  # the first result is not the first to be there
        if n == 1:
            second.set()
        with lock:
            running.remove(n)
        return n * n

    assert list(spread(work, range(20), 3)) == [n * n for n in range(20)]
    assert max(most) == 3


def test_the_first_failure_ends_the_work():
    begun = []

    def work(n):
        begun.append(n)
        return 1 // (3 - n)

    results = spread(work, range(10**6), 1)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 10


SCRIPT = """
import sys
import jax.numpy as jnp
from jnd_jax import cli
from jnd_jax.devices import spread

used = {device for devices in spread(lambda n: jnp.ones(n).sum().devices(), range(1, 9), 8) for device in devices}
assert len(used) == 8, used
sys.exit(cli.main(sys.argv[1:]))
"""


def test_eight_devices_write_the_files_of_one(tmp_path, tiny_model):
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(zoo.FOLDER / "chelsea.png") as image:
        for n in range(9):
            image.resize((40 + 8 * n, 56)).save(photos / f"{n}.png")
    arguments = ["encode", str(photos), "--model", str(tiny_model), "-o"]
    assert main([*arguments, str(tmp_path / "one"), "--workers", "1"]) == 0
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, str(tmp_path / "eight"), "--workers", "8"],
        env={**os.environ, **flags},
        check=True,
    )
    for n in range(9):
        assert (tmp_path / "one" / f"{n}.jnd").read_bytes() == (tmp_path / "eight" / f"{n}.jnd").read_bytes()
