"""Published rate-distortion curves of the field, each with its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Curve:
    """Attributes:
    name: of the model in the literature.
    dataset: images it was measured on.
    metric: name in `jnd_jax.metrics`.
    source: where the numbers were published.
    points: (bits per pixel, metric value), ascending.
    """

    name: str
    dataset: str
    metric: str
    source: str
    points: tuple[tuple[float, float], ...]


def published() -> list[Curve]:
    """All curves that ship with the package."""
    curves = []
    for path in sorted(Path(__file__).parent.glob("*.json")):
        table = json.loads(path.read_text(encoding="utf-8"))
        curves += [
            Curve(
                entry["name"],
                table["dataset"],
                table["metric"],
                entry["source"],
                tuple((rate, quality) for rate, quality in entry["points"]),
            )
            for entry in table["curves"]
        ]
    return curves
