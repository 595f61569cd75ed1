"""How programs are compiled for the devices of this host, and independent pieces of work on all of them at once."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import jax

Item = TypeVar("Item")
Result = TypeVar("Result")

# XLA's newer library for CPUs gets products of matrices alone: it would keep convolutions to one thread.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


@functools.cache
def compiler_options() -> dict[str, Any]:
    """XLA's options for programs that run on this host, as `compiler_options` of `jax.jit`; for accelerators there are none."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:  # A version of XLA that does not know them.
        return {}
    return _CPU_OPTIONS


def jit(*static: int) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """`jax.jit` with static arguments of these numbers and `compiler_options`: JAX starts at the first call, not here."""

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        make = functools.cache(lambda: jax.jit(function, static_argnums=static, compiler_options=compiler_options()))
        return functools.wraps(function)(lambda *arguments: make()(*arguments))

    return decorate


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
