"""Answers that were made lately, bounded in bytes; equal requests at one time are done once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What can be kept: it says how many bytes it takes."""

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Cache(Generic[T]):
    """The least recently used answers go when `capacity` bytes are reached.

    Attributes:
      size: bytes that are kept.
    """

    def __init__(self, capacity: int):
        self._capacity, self.size = capacity, 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What is kept under `key`, or else what `make` gives; it fails as `make` does, and that is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._making:
            self._making[key] = asyncio.ensure_future(self._make(key, make))
        # One of several clients that goes away must not end the work for the others.
        return await asyncio.shield(self._making[key])

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        try:
            made = await make()
        finally:
            del self._making[key]
        self._kept[key] = made
        self.size += made.size
        while self.size > self._capacity:
            self.size -= self._kept.popitem(last=False)[1].size
        return made
