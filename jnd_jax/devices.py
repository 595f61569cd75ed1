"""Independent pieces of work, such as the images of a store, on all devices of this host at once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

Item, Result = TypeVar("Item"), TypeVar("Result")


def spread(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yields function(item) of each item, in their order, while `workers` threads work ahead.

    What JAX computes in `function` runs on one device; each item takes the next one in turn. The rest, such as range
    coding, runs in the item's thread. So images of different sizes keep all devices and cores busy.
    Raises what `function` raises, once the items before it are through; what has not begun by then never does.
    """
    devices = itertools.cycle(jax.local_devices())

    def on(device: jax.Device, item: Item) -> Result:
        with jax.default_device(device):
            return function(item)

    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(on, next(devices), item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
