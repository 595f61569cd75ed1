"""Reading and checking the subjects' answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jnd_jax.errors import JndError


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """All subjects' records in a folder.

    Raises:
        JndError: none, one that is no record, or records of different tests.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            _ = record["answers"], record["subject"], record["test"]
        except (ValueError, KeyError, TypeError) as error:
            raise JndError(f"{path} is no file of answers: take it out of the folder") from error
        records.append(record)
    if not records:
        raise JndError(f"put the subjects' answers (JSON files) into {folder}")
    if len({record["test"] for record in records}) > 1:
        raise JndError(f"{folder} holds answers to different tests: analyse each in its own folder")
    return records
