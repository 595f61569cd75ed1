"""One BLAS thread for functions whose small products would leave NumPy's threads spinning, at others' expense."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from threadpoolctl import ThreadpoolController

Function = TypeVar("Function", bound=Callable[..., Any])
# Made at the first call, when the libraries that it looks for are loaded.
_blas = functools.cache(ThreadpoolController)
_lock = threading.Lock()
_callers = 0
_limit: Any = None


@contextlib.contextmanager
def _single() -> Iterator[None]:
    # Counted: of calls that overlap, the last one restores what the first one found. (Once the main thread has set a
    # limit, OpenBLAS 0.3.31 ignores those of other threads: these only lose time.)
    global _callers, _limit
    with _lock:
        if _callers == 0:
            _limit = _blas().limit(limits=1, user_api="blas")
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                _limit.restore_original_limits()


def single_blas_thread(function: Function) -> Function:
    """The function, during whose calls BLAS has one thread in this process."""

    @functools.wraps(function)
    def limited(*arguments: Any, **keywords: Any) -> Any:
        with _single():
            return function(*arguments, **keywords)

    return cast(Function, limited)
