"""constriction without types: its own are in the compiled module, which type checkers do not see."""

from typing import Any

def __getattr__(name: str) -> Any: ...
