"""A queue that shares the workers fairly between classes of requests (start-time fair queueing, Goyal et al. 1996)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(Exception):
    """The class has no room for another item."""


class Turns(Generic[T]):
    """Queues by class: the class that has used the least time is served next, first in, first out."""

    def __init__(self, room: Mapping[str, int]):
        """`room`: length limit of each class's queue."""
        self._room = dict(room)
        self._waiting: dict[str, deque[T]] = {name: deque() for name in room}
        self._used = dict.fromkeys(room, 0.0)
        self._now = 0.0
        self._arrived = asyncio.Condition()

    def waiting(self) -> dict[str, int]:
        """Queue length of each class."""
        return {name: len(queue) for name, queue in self._waiting.items()}

    async def put(self, name: str, item: T) -> None:
        """Appends an item to a class's queue; raises Full if it is full."""
        queue = self._waiting[name]
        if len(queue) >= self._room[name]:
            raise Full
        if not queue:  # An idle class earns no credit.
            self._used[name] = max(self._used[name], self._now)
        queue.append(item)
        async with self._arrived:
            self._arrived.notify()

    def discard(self, name: str, item: T) -> None:
        """Removes an item, if it is still queued."""
        if item in self._waiting[name]:
            self._waiting[name].remove(item)

    async def get(self) -> tuple[str, T]:
        """Waits for the next item; returns its class and the item."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: any(self._waiting.values()))
            name = min((name for name, queue in self._waiting.items() if queue), key=self._used.__getitem__)
            self._now = self._used[name]
            return name, self._waiting[name].popleft()

    def charge(self, name: str, seconds: float) -> None:
        """Adds a worker's time to what a class has used."""
        self._used[name] += seconds
