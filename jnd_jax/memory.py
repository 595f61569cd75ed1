"""Memory that pieces of work which run at once take together."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

# Bytes that coding an image takes, and for each of its pixels, the image as it is read included (bench/memory.py). Lossless
# WebP, of the opacity or of the record of errors, takes the last for each pixel, before or after the image is coded.
_IMAGE, _PIXEL, _LOSSLESS = 400e6, 12, 45


def counted(width: int, height: int, effort: bool = False) -> float:
    """Bytes that are counted for an image of this size, whatever it holds; an effort doubles what coding takes."""
    return max((1 + effort) * (_IMAGE + _PIXEL * width * height), _LOSSLESS * width * height)


def available() -> float:
    """Bytes that this process may still take: of the machine, or of its control group (cgroup v2); infinite if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()
        found.append(1024 * float(words[0]))
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/sys/fs/cgroup", Path("/proc/self/cgroup").read_text().strip().rpartition("::/")[2])
        limit, used = (float((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(limit - used)
    return min(found, default=float("inf"))


def give_back() -> None:
    """Gives memory that was freed back to the system. glibc would keep much of it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Other C libraries have no malloc_trim.
        ctypes.CDLL(None).malloc_trim(0)


class MemoryBudget:
    """Admits images to threads while they fit into memory together. One alone is always admitted."""

    def __init__(self, limit: float | None = None, effort: bool = False):
        """`limit` in bytes; None: what is available now. `effort`: whether images are encoded with one."""
        self._limit, self._used = available() if limit is None else limit, 0.0
        self._effort = effort
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def admit(self) -> Iterator[Callable[[int, int], None]]:
        """A block that codes an image. It calls the function that it gets with width and height, which waits for memory."""
        taken = 0.0

        def wait(width: int, height: int) -> None:
            nonlocal taken
            need = counted(width, height, self._effort)
            with self._changed:
                self._changed.wait_for(lambda: not self._used or self._used + need <= self._limit)
                self._used += need
            taken = need

        try:
            yield wait
        finally:
            with self._changed:
                self._used -= taken
                self._changed.notify_all()
