"""The one exception that users of the package need to catch."""

from __future__ import annotations


class JndError(ValueError):
    """Input that cannot be processed; the message is one sentence that says what to do about it."""
