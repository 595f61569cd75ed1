"""How much memory a piece of work takes, whatever the process took before it. Linux only."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

_PROCESS = Path("/proc/self")


def _resident(field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+) kB", (_PROCESS / "status").read_text())[1]) / 1024


@contextmanager
def growth() -> Iterator[SimpleNamespace]:
    """`mebibytes`, known at the end: the highest resident memory within the block less that at its start."""
    gc.collect()  # What is freed within the block would hide what it takes.
    (_PROCESS / "clear_refs").write_text("5")  # the high-water mark falls to what is resident now (proc(5))
    before, found = _resident("VmRSS"), SimpleNamespace(mebibytes=None)
    yield found
    found.mebibytes = _resident("VmHWM") - before
