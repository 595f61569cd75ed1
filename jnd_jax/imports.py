"""Objects that a config names by import path."""

from __future__ import annotations

import importlib
from typing import Any

from jnd_jax.errors import JndError


def is_import_path(name: Any) -> bool:
    """Whether `name` has the form "package.module:Name"."""
    return isinstance(name, str) and ":" in name


def imported(path: str) -> Any:
    """What "package.module:Name" names.

    Raises:
        JndError: no such module, or nothing of that name in it.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise JndError(
            f"{path} cannot be imported ({error}); install its package, or put the folder of its module into PYTHONPATH."
        ) from error


def import_path(value: Any) -> str:
    """The import path of a class or function.

    Raises:
        JndError: it is defined inside a function, where no import reaches it.
    """
    if "<" in value.__qualname__:
        raise JndError(f"{value.__qualname__} cannot be imported by its name; define it at the top level of a module.")
    return f"{value.__module__}:{value.__qualname__}"
