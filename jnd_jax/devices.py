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
    """Yields function(item) of each item, in their order, while `workers` threads work ahead.

    What JAX computes in `function` runs on one device, of as many as there are workers; an item takes one that is free. The
    rest, such as range coding, runs in the item's thread. So images of different sizes keep devices and cores busy.
    Raises what `function` raises, once the items before it are through; what has not begun by then never does.
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
