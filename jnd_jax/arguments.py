"""Types of the numbers that commands take: each parses a word, or says in a sentence what to give."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(low: int) -> Callable[[str], int]:
    """A whole number of at least `low`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and int(text) >= low):
            raise argparse.ArgumentTypeError(f"give a whole number of at least {low}, not {text!r}")
        return int(text)

    return parse


def between(low: float, high: float = float("inf")) -> Callable[[str], float]:
    """A number between two, without them."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low
        if not low < value < high:
            limits = f"above {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise argparse.ArgumentTypeError(f"give a number {limits}, not {text!r}")
        return value

    return parse
