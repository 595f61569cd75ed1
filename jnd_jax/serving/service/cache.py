"""A cache of recent answers, bounded in bytes, that also merges equal requests in flight."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A value whose size in bytes is known."""

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Cache(Generic[T]):
    """Least-recently-used cache.

    Attributes:
      size: bytes cached.
    """

    def __init__(self, capacity: int):
        """`capacity`: bytes to cache at most."""
        self._capacity, self.size = capacity, 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The cached value of `key`, else the one that `make` returns.

        An exception of `make` is raised, and neither it nor a value larger than the cache is kept.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._making:
            self._making[key] = asyncio.ensure_future(self._make(key, make))
        # A client that disconnects must not cancel the work for the others.
        return await asyncio.shield(self._making[key])

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        try:
            made = await make()
        finally:
            del self._making[key]
        if made.size > self._capacity:
            return made
        self._kept[key] = made
        self.size += made.size
        while self.size > self._capacity:
            self.size -= self._kept.popitem(last=False)[1].size
        return made
