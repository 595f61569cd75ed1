"""Memory of a training process."""

from __future__ import annotations

import contextlib
import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_memory() -> None:
    """Has this process keep the memory that it frees, where glibc manages it; to be called before threads start.

    On a CPU the buffers of a training step are hundreds of megabytes. They would go back to the kernel after each step, and
    come again page by page, cleared.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(parameter, value)
