"""Independent pieces of work, such as the images of a store, on all devices of this host at once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import jax

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yields function(item) for each item, in order, while `workers` threads work ahead.

    Each item runs on one device taken from a pool of `workers` devices; what is no JAX, such as range coding, runs in the
    item's thread. So images of different sizes keep devices and cores busy.

    Raises:
        Exception: what `function` raises, after the results of the items before. Items not yet begun are dropped.
    """
    free = SimpleQueue()
    for device in itertools.islice(itertools.cycle(jax.local_devices()), workers):
        free.put(device)

    def on_free_device(item: Item) -> Result:
        device = free.get()
        try:
            with jax.default_device(device):
                return function(item)
        finally:
            free.put(device)

    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(on_free_device, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
