"""TensorFlow without types: those at hand for it are incomplete, and wrong where arrays become tensors."""

from typing import Any

def __getattr__(name: str) -> Any: ...
