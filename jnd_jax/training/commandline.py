"""What the commands of training share: flags that change a config, and mistakes that cost one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import NoReturn

from absl import flags


def fail(program: str, error: Exception | str, status: int = 2) -> NoReturn:
    """Say in one line what is wrong, and end with this status."""
    print(f"{program}: {str(error).strip().splitlines()[0]}", file=sys.stderr, flush=True)
    # Not sys.exit: at its end a process waits for all others, of which one may be dead.
    os._exit(status)


def parse(program: str, arguments: list[str]) -> list[str]:
    """Read absl's flags, of which `config` names a config file; ends the process where they cannot be.

    Args:
        program: the name that the line about a mistake begins with.
        arguments: the command line, the program first.

    Returns:
        The arguments that are no flags, the program first.
    """
    try:
        left = flags.FLAGS(arguments)
        _ = flags.FLAGS.config.to_dict  # where the file was not found, this says so
        return left
    except Exception as error:
        fail(program, _explained(error))


def _explained(error: Exception) -> str:
    """What is wrong with the command line or with the config file, in one line."""
    if isinstance(error, flags.Error):
        return str(error)
    if isinstance(error, OSError):
        return f"The config cannot be read: {str(error).splitlines()[-1].strip()}."
    if isinstance(error, SyntaxError):
        return f"The config cannot be read: {error}."
    if "get_config" in str(error):
        return "The config file has no function get_config; see configs/base.py."
    *_, place = traceback.extract_tb(error.__traceback__)
    if "ml_collections" in place.filename:
        name, *_ = re.findall(r"\w+", str(error))
        return f"The config has no setting {name!r}; see its file for those it has."
    return f"The config fails in {place.filename}, line {place.lineno}: {type(error).__name__}: {error}."
