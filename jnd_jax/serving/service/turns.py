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
    """Items that wait, by class; the class that has used the least time comes next, in order of arrival within it."""

    def __init__(self, room: Mapping[str, int]):
        """`room`: items of each class that may wait."""
        self._room = dict(room)
        self._waiting: dict[str, deque[T]] = {name: deque() for name in room}
        self._used = dict.fromkeys(room, 0.0)
        self._now = 0.0
        self._arrived = asyncio.Condition()

    def waiting(self) -> dict[str, int]:
        """How many items of each class wait."""
        return {name: len(queue) for name, queue in self._waiting.items()}

    async def put(self, name: str, item: T) -> None:
        """Adds an item to a class; raises Full if there is no room for it."""
        queue = self._waiting[name]
        if len(queue) >= self._room[name]:
            raise Full
        if not queue:  # A class saves up no turns while nothing of it waits.
            self._used[name] = max(self._used[name], self._now)
        queue.append(item)
        async with self._arrived:
            self._arrived.notify()

    def discard(self, name: str, item: T) -> None:
        """Takes an item back, if it still waits."""
        if item in self._waiting[name]:
            self._waiting[name].remove(item)

    async def get(self) -> tuple[str, T]:
        """Class and item whose turn it is; waits for one."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: any(self._waiting.values()))
            name = min((name for name, queue in self._waiting.items() if queue), key=self._used.__getitem__)
            self._now = self._used[name]
            return name, self._waiting[name].popleft()

    def charge(self, name: str, seconds: float) -> None:
        """Counts a worker's time as used by a class."""
        self._used[name] += seconds
