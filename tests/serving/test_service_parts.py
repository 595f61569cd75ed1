"""The queue, the cache and the bounds of the service."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs the service's packages: pip install 'jnd-jax[serve]'")
httpx = pytest.importorskip("httpx", reason="needs the service's packages: pip install 'jnd-jax[dev]'")
import psutil  # noqa: E402  these need the packages above

from jnd_jax.serving.service import command  # noqa: E402
from jnd_jax.serving.service.cache import Cache  # noqa: E402
from jnd_jax.serving.service.jobs import Result  # noqa: E402
from jnd_jax.serving.service.turns import Full, Turns  # noqa: E402
from tests.serving.test_service import PHOTO, png, wait  # noqa: E402


def test_classes_share_the_time_whatever_their_items_take():
    """A picture of 1 second and an encoding of 4: as much time for each, while both wait."""

    async def run():
        turns, seconds, order = Turns({"encode": 50, "picture": 50}), {"encode": 4.0, "picture": 1.0}, []
        for number in range(20):
            await turns.put("encode", number)
            await turns.put("picture", number)
        for _ in range(15):
            name, number = await turns.get()
            order.append((name, number))
            turns.charge(name, seconds[name])
        return order

    order = asyncio.run(run())
    assert 11 <= sum(name == "picture" for name, _ in order) <= 13
    assert [number for name, number in order if name == "picture"] == list(range(12))[: len(order)][
        : sum(name == "picture" for name, _ in order)
    ]


def test_a_class_saves_up_no_turns_while_it_does_not_wait():
    async def run():
        turns = Turns({"a": 50, "b": 50})
        for number in range(20):
            await turns.put("a", number)
            turns.charge((await turns.get())[0], 1.0)
        for number in range(10):
            await turns.put("a", number)
            await turns.put("b", number)
        names = []
        for _ in range(10):
            names.append((await turns.get())[0])
            turns.charge(names[-1], 1.0)
        return names

    assert asyncio.run(run()).count("a") == 5


def test_a_full_class_is_refused_and_the_others_are_not():
    async def run():
        turns = Turns({"a": 1, "b": 1})
        await turns.put("a", 1)
        with pytest.raises(Full):
            await turns.put("a", 2)
        await turns.put("b", 1)
        turns.discard("a", 1)
        await turns.put("a", 3)
        assert turns.waiting() == {"a": 1, "b": 1}

    asyncio.run(run())


def test_the_cache_is_bounded_and_makes_nothing_twice():
    async def run():
        made, cache = [], Cache(250)

        async def get(key):
            async def make():
                made.append(key)
                await asyncio.sleep(0)
                return Result(bytes(100), 1)

            return await cache.get(key, make)

        await asyncio.gather(get("a"), get("a"), get("b"))
        assert made == ["a", "b"] and cache.size == 200
        await get("a")
        await get("c")  # "b" is the one that was used longest ago
        assert cache.size == 200
        await get("a")
        await get("b")
        assert made == ["a", "b", "c", "b"]

    asyncio.run(run())


def test_an_answer_larger_than_the_cache_leaves_the_others_there():
    async def run():
        cache, made = Cache(250), []

        async def get(key, size):
            async def make():
                made.append(key)
                return Result(bytes(size), 1)

            return await cache.get(key, make)

        await get("a", 100)
        assert len((await get("large", 251)).data) == 251
        await get("a", 100)
        await get("large", 251)
        assert made == ["a", "large", "large"] and cache.size == 100

    asyncio.run(run())


@pytest.mark.parametrize("options", [["--workers", "0.5"], ["--queue", "0"], ["--wait", "nan"], ["--port", "65536"]])
def test_an_option_that_cannot_be_is_refused(options, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(options)
    assert ended.value.code == 2 and repr(options[1]) in capsys.readouterr().err


def test_a_failure_is_not_kept_and_fails_all_who_wait():
    async def run():
        cache, attempts = Cache(100), []

        async def fail():
            attempts.append(1)
            await asyncio.sleep(0)
            raise ValueError

        for _ in range(2):
            outcomes = await asyncio.gather(*(cache.get("a", fail) for _ in range(3)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
        assert len(attempts) == 2

    asyncio.run(run())


class Watch(threading.Thread):
    """The most memory of any child of a process, MiB, as long as it runs."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._process, self.peak, self.ended = psutil.Process(pid), 0.0, threading.Event()

    def run(self):
        while not self.ended.wait(0.005):
            for child in self._process.children(recursive=True):
                try:
                    self.peak = max(self.peak, child.memory_info().rss / 2**20)
                except psutil.Error:
                    continue


def test_memory_and_time_of_a_request_are_bounded(golden_model):
    """A flat image is small to send and large to code; the service ends what exceeds its bounds, and goes on."""
    limits = ["--max-megapixels", "100", "--worker-megabytes", "900", "--cpu-seconds", "4"]
    command = [sys.executable, "-m", "jnd_jax.cli", "serve", str(golden_model), "--port", "0", *limits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            wait(lambda: httpx.get(f"{url}/ready").status_code == 200, 120)
            watch = Watch(process.pid)
            watch.start()
            flat = png(np.zeros((6000, 8000, 3), np.uint8))
            start = time.monotonic()
            response = httpx.post(f"{url}/encode", content=flat, timeout=300)
            assert response.status_code == 413 and "more than" in response.json()["error"]
            large = png(np.tile(PHOTO, (16, 16, 1)))
            response = httpx.post(f"{url}/encode?target=ssimulacra2=50", content=large, timeout=300)
            assert response.status_code == 413 and "more than" in response.json()["error"]
            assert time.monotonic() - start < 150
            assert httpx.post(f"{url}/encode", content=png(PHOTO), timeout=300).status_code == 200
            watch.ended.set()
            assert 100 < watch.peak < 1000, watch.peak
            assert 'jnd_workers_replaced_total{reason="expensive"} 2.0' in httpx.get(f"{url}/metrics").text
        finally:
            process.terminate()
        assert process.wait(timeout=30) in (0, -15)
