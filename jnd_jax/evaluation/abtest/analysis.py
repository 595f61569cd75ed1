"""What the answers say: preference, equality, ranking and just-noticeable differences."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import subjects
from jnd_jax.jnd import sur


def _condition(source: str) -> str:
    return source.split("|", 1)[1]


def _wins(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """(preferred, other) -> answers, attention checks left out."""
    wins: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        for answer in record["answers"]:
            if answer["kind"] == "pair" and answer["expected"] is None:
                left, right = _condition(answer["left"]), _condition(answer["right"])
                wins[(left, right) if answer["choice"] == "left" else (right, left)] += 1
    return wins


def _elo(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    wins = _wins(records)
    return subjects.bradley_terry(np.array([[wins.get((a, b), 0) for b in names] for a in names]))


def analyse(records: Sequence[Mapping[str, Any]], margin: float = 0.1) -> dict[str, Any]:
    """What the answers say.

    Args:
        records: as `read_answers` returns them.
        margin: equality margin of the preference share (.1: between 40 and 60 %).

    Returns:
        excluded: subject -> reason; subjects: number kept; pairs: `subjects.Preference` of each pair as a
            dict;
        ranking: condition, Elo rating and its 95 % interval from resampled subjects; jnd: by image and codec
            the
        subjects' threshold qualities, and the qualities that satisfy 50 and 75 % of them (None: never).

    Raises:
        JndError: no subject passed the screening.
    """
    excluded = {record["subject"]: reason for record in records if (reason := subjects.screen(record["answers"]))}
    kept = [record for record in records if record["subject"] not in excluded]
    if not kept:
        raise JndError(
            f"all {len(records)} subjects were screened out ({'; '.join(sorted(set(excluded.values())))}): "
            "ask more people"
        )
    wins = _wins(kept)
    names = sorted({name for pair in wins for name in pair})
    pairs = [
        asdict(subjects.preference(a, b, wins[a, b], wins[a, b] + wins[b, a], margin))
        for a, b in itertools.combinations(names, 2)
        if wins[a, b] + wins[b, a]
    ]
    ranking = []
    if names:
        random = np.random.default_rng(0)
        resampled = []
        for _ in range(200):
            try:
                resampled.append(_elo([kept[i] for i in random.integers(0, len(kept), len(kept))], names))
            except JndError:
                continue
        ends = np.percentile(resampled, [2.5, 97.5], axis=0)
        ranking = sorted(
            (
                {"condition": name, "elo": float(elo), "low": float(low), "high": float(high)}
                for name, elo, low, high in zip(names, _elo(kept, names), *ends)
            ),
            key=lambda row: -row["elo"],
        )
    thresholds: dict[tuple[str, str], dict[str, tuple[float, bool]]] = defaultdict(dict)
    for record in kept:
        seen = defaultdict(list)
        for answer in record["answers"]:
            if answer["kind"] == "flicker" and answer["expected"] is None:
                seen[answer["image"], answer["codec"]].append((answer["quality"], answer["choice"] == "yes"))
        for key, answers in seen.items():
            thresholds[key][record["subject"]] = subjects.step_threshold(answers)
    jnd = []
    for (image, codec), by_subject in sorted(thresholds.items()):
        values = [quality if reached else math.inf for quality, reached in by_subject.values()]
        shares = {f"sur{share}": sur.jnd_quality(values, share / 100) for share in (50, 75)}
        jnd.append(
            {
                "image": image,
                "codec": codec,
                "thresholds": {
                    subject: quality if reached else None for subject, (quality, reached) in by_subject.items()
                },
                **{name: None if math.isinf(value) else value for name, value in shares.items()},
            }
        )
    return {
        "excluded": excluded,
        "subjects": len(kept),
        "pairs": pairs,
        "ranking": ranking,
        "jnd": jnd,
        "margin": margin,
    }


def sentence(pair: Mapping[str, Any]) -> str:
    """One pair's result in words."""
    first, second = pair["first"], pair["second"]
    numbers = (
        f"{first} was preferred to {second} in {pair['wins']} of {pair['total']} answers "
        f"({100 * pair['share']:.0f} %, 95 % interval {100 * pair['low']:.0f} to {100 * pair['high']:.0f} %)"
    )
    words = {
        "first": f"people prefer {first}",
        "second": f"people prefer {second}",
        "equal": "the two are shown to look equally good",
        "first no worse": f"{first} is shown to be as good as {second} at least",
        "second no worse": f"{second} is shown to be as good as {first} at least",
        "open": "this shows neither a preference nor equality; ask more people",
    }[pair["verdict"]]
    return f"{numbers}: {words}."


def write_analysis(result: Mapping[str, Any], folder: Path, command: str) -> None:
    """Writes analysis.json, analysis.md, and for flicker tests jnd.csv (a row an image: the quality that
    satisfies 50 and 75 % of the subjects) and jnd_subjects.csv (a row an image and subject)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"`{command}`",
        "",
        f"{result['subjects']} subjects; {len(result['excluded'])} screened out.",
        "",
    ]
    lines += [f"- {subject}: {reason}" for subject, reason in result["excluded"].items()]
    lines += ["", "## Preference", ""] + [f"- {sentence(pair)}" for pair in result["pairs"]]
    if result["ranking"]:
        lines += ["", "## Ranking", "", "| condition | Elo | 95 % interval |", "|---|---|---|"]
        lines += [
            f"| {row['condition']} | {row['elo']:.0f} | {row['low']:.0f} to {row['high']:.0f} |"
            for row in result["ranking"]
        ]
    if result["jnd"]:
        lines += [
            "",
            "## Quality without visible difference",
            "",
            "| image | codec | half of the subjects | three quarters |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {row['image']} | {row['codec']} | "
            + " | ".join("none" if row[s] is None else f"{row[s]:g}" for s in ("sur50", "sur75"))
            + " |"
            for row in result["jnd"]
        ]
        with (folder / "jnd.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "codec", "subjects", "sur50", "sur75"])
            writer.writerows(
                [
                    row["image"],
                    row["codec"],
                    len(row["thresholds"]),
                    *("" if row[s] is None else f"{row[s]:g}" for s in ("sur50", "sur75")),
                ]
                for row in result["jnd"]
            )
        with (folder / "jnd_subjects.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "codec", "subject", "quality"])
            writer.writerows(
                [row["image"], row["codec"], subject, "" if quality is None else f"{quality:g}"]
                for row in result["jnd"]
                for subject, quality in row["thresholds"].items()
            )
    (folder / "analysis.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
