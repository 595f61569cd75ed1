"""What the answers say: preference, equality, ranking and just-noticeable differences."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import answers as reading
from jnd_jax.evaluation.abtest import plan as planning
from jnd_jax.evaluation.abtest import preference, psychometric
from jnd_jax.jnd import sur

RESAMPLES = 200


class Choice(NamedTuple):
    """One answer to a pair, attention checks apart."""

    subject: str
    image: str
    preferred: str
    other: str


def _choices(records: Sequence[Mapping[str, Any]]) -> list[Choice]:
    choices = []
    for record in records:
        for answer in record["answers"]:
            if answer["kind"] == "pair" and answer["expected"] is None:
                left, right = (answer[side].removeprefix(answer["image"] + "|") for side in ("left", "right"))
                preferred, other = (left, right) if answer["choice"] == "left" else (right, left)
                choices.append(Choice(record["subject"], answer["image"], preferred, other))
    return choices


def _pairs(choices: Sequence[Choice], margin: float, level: float) -> list[preference.Preference]:
    """Every pair of conditions that was compared, judged together."""
    names = sorted({name for choice in choices for name in (choice.preferred, choice.other)})
    compared = []
    for first, second in itertools.combinations(names, 2):
        own = [choice for choice in choices if {choice.preferred, choice.other} == {first, second}]
        if own:
            preferred = [choice.preferred == first for choice in own]
            who, what = [choice.subject for choice in own], [choice.image for choice in own]
            compared.append(preference.compare(first, second, preferred, who, what, margin))
    return preference.judge(compared, level)


def _elo(choices: Sequence[Choice], weights: Sequence[int], names: Sequence[str]) -> np.ndarray:
    wins: Counter[tuple[str, str]] = Counter()
    for choice, weight in zip(choices, weights):
        wins[choice.preferred, choice.other] += weight
    return preference.bradley_terry(np.array([[wins[a, b] for b in names] for a in names]))


def _ranking(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Elo ratings; 95 % intervals from resampled subjects and images at once (Owen, "The pigeonhole bootstrap", 2007)."""
    names = sorted({name for choice in choices for name in (choice.preferred, choice.other)})
    if not names:
        return []
    random, resampled = np.random.default_rng(0), []
    clusters = [sorted({getattr(choice, field) for choice in choices}) for field in ("subject", "image")]
    for _ in range(RESAMPLES):
        drawn = [Counter(random.choice(labels, len(labels)).tolist()) for labels in clusters]
        weights = [drawn[0][choice.subject] * drawn[1][choice.image] for choice in choices]
        try:
            resampled.append(_elo(choices, weights, names))
        except JndError:
            continue
    few = min(map(len, clusters)) < preference.FEWEST or len(resampled) < RESAMPLES // 2
    ends = [[None] * len(names)] * 2 if few else np.percentile(resampled, [2.5, 97.5], axis=0).tolist()
    rows = [
        {"condition": name, "elo": float(elo), "low": low, "high": high}
        for name, elo, low, high in zip(names, _elo(choices, [1] * len(choices), names), *ends)
    ]
    return sorted(rows, key=lambda row: -row["elo"])


def _thresholds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By image and codec, each subject's threshold quality and those that satisfy 50 and 75 % of them, in tenths."""
    seen: dict[tuple[str, str], dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for answer in record["answers"]:
            if answer["kind"] == "flicker" and answer["expected"] is None:
                trial = (answer["quality"], answer["choice"] == "yes")
                seen[answer["image"], answer["codec"]][record["subject"]].append(trial)
    guess, lapse = reading.error_rates(records)
    spans: dict[str, list[float]] = defaultdict(list)
    for (_, codec), by_subject in seen.items():
        spans[codec] += [quality for trials in by_subject.values() for quality, _ in trials]
    rows = []
    for (image, codec), by_subject in sorted(seen.items()):
        low, high = min(spans[codec]), max(spans[codec])
        if low == high:
            continue
        values = {
            subject: psychometric.threshold(trials, low, high, guess=guess, lapse=lapse)
            for subject, trials in by_subject.items()
        }
        # Upwards, so that the quality in the table is one that satisfies.
        tenths = {subject: math.ceil(10 * v) / 10 if math.isfinite(v) else v for subject, v in values.items()}
        shares = {f"sur{share}": sur.jnd_quality(list(tenths.values()), share / 100) for share in (50, 75)}
        finite = lambda value: None if math.isinf(value) else value
        rows.append(
            {
                "image": image,
                "codec": codec,
                "thresholds": {subject: finite(value) for subject, value in tenths.items()},
                **{name: finite(value) for name, value in shares.items()},
            }
        )
    return rows


def _looks(kept: int, plan: Mapping[str, Any] | None, earlier: Sequence[planning.Look], level: float) -> list[str]:
    """What the reader must know of when the test was looked at, a sentence each."""
    notes = []
    if plan is None:
        notes.append(
            "No number of subjects was fixed before (`abtest build --subjects`). If the test was looked at and went on, its "
            "error rates are higher than stated."
        )
    elif any(look.subjects >= plan["subjects"] for look in earlier):
        notes.append(
            f"The test was looked at before with its {plan['subjects']} planned subjects: the verdicts of that look stand, "
            "and none are given after it. To see them again, leave out the answers that came later."
        )
    elif kept < plan["subjects"]:
        verdicts = f"verdicts are given at {100 * level:g} % as planned" if level else "no verdict is given before"
        notes.append(f"This is an interim look, after {kept} of {plan['subjects']} planned subjects: {verdicts}.")
    if earlier:
        looks = [f"{look.subjects} ({', '.join(filter(None, (look.date, look.options)))})" for look in earlier]
        times = "once" if len(looks) == 1 else f"{len(looks)} times"
        planned = "" if plan is None else f"; {plan['subjects']} were planned"
        notes.append(f"The test was looked at {times} before, after this many subjects: {', '.join(looks)}{planned}.")
    return notes


def _conditions(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Under which conditions the subjects looked: how many by device, and the ranges of distance and scaling."""
    number = lambda value: value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    distances = [d for record in records if (d := number(record.get("distance_cm"))) is not None]
    screens = [record["screen"] for record in records if isinstance(record.get("screen"), dict)]
    ratios = Counter(f"{r:g}" for screen in screens if (r := number(screen.get("pixel_ratio"))) is not None)
    return {
        "devices": dict(Counter(str(record.get("device", "unknown"))[:40] for record in records)),
        "distance_cm": [min(distances), max(distances)] if distances else None,
        "pixel_ratios": dict(ratios),
        "zoom_changed": sum(bool(record.get("zoom_changes")) for record in records),
    }


def analyse(
    subjects: reading.Subjects,
    *,
    margin: float = 0.1,
    plan: Mapping[str, Any] | None = None,
    looks: Sequence[planning.Look] = (),
) -> dict[str, Any]:
    """What the answers say.

    Args:
        subjects: as `answers.read` returns them.
        margin: equality margin of the preference share (.1: between 40 and 60 %).
        plan: {"subjects": N, "looks": K} that was fixed before the test; before N subjects only K looks give a verdict.
        looks: earlier analyses of the test.

    Returns:
        excluded: subject -> reason; subjects: number kept; visitors: who answered nothing; notes; conditions;
        pairs: `preference.Preference` of each pair as a dict; ranking: condition, Elo rating and its 95 % interval;
        jnd: by image and codec the subjects' threshold qualities, and those that satisfy 50 and 75 % of them (None:
        never); margin; level: at which verdicts are given, 0 where none are.
    """
    level = planning.level(len(subjects.kept), plan, looks)
    choices = _choices(subjects.kept)
    return {
        "excluded": subjects.excluded,
        "subjects": len(subjects.kept),
        "visitors": subjects.visitors,
        "notes": [*subjects.notes, *(_looks(len(subjects.kept), plan, looks, level) if choices else [])],
        "conditions": _conditions(subjects.kept),
        "pairs": [asdict(pair) for pair in _pairs(choices, margin, level)],
        "ranking": _ranking(choices),
        "jnd": _thresholds(subjects.kept),
        "margin": margin,
        "level": level,
    }


def sentence(pair: Mapping[str, Any]) -> str:
    """One pair's result in words."""
    first, second = pair["first"], pair["second"]
    numbers = (
        f"{first} was preferred to {second} in {pair['wins']} of {pair['total']} answers "
        f"({100 * pair['share']:.0f} %, 95 % interval {100 * pair['low']:.0f} to {100 * pair['high']:.0f} %; "
        f"{pair['subjects']} subjects, {pair['images']} images)"
    )
    small = ", but by less than the margin that counts as equal"
    words = {
        "first": f"people prefer {first}",
        "second": f"people prefer {second}",
        "first, within the margin": f"people prefer {first}{small}",
        "second, within the margin": f"people prefer {second}{small}",
        "equal": "the two are shown to look equally good",
        "first no worse": f"{first} is shown to be as good as {second} at least",
        "second no worse": f"{second} is shown to be as good as {first} at least",
        "open": "this shows neither a preference nor equality",
    }[pair["verdict"]]
    return f"{numbers}: {words}."


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _write_thresholds(jnd: Sequence[Mapping[str, Any]], folder: Path) -> None:
    text = lambda quality: "" if quality is None else f"{quality:g}"
    _write_csv(
        folder / "jnd.csv",
        ["image", "codec", "subjects", "sur50", "sur75"],
        [[r["image"], r["codec"], len(r["thresholds"]), text(r["sur50"]), text(r["sur75"])] for r in jnd],
    )
    _write_csv(
        folder / "jnd_subjects.csv",
        ["image", "codec", "subject", "quality"],
        [[r["image"], r["codec"], subject, text(q)] for r in jnd for subject, q in r["thresholds"].items()],
    )


def to_markdown(result: Mapping[str, Any], command: str) -> str:
    """The analysis as text, headed by the command that makes it."""
    conditions = result["conditions"]
    seen = [f"{count} {device}" for device, count in conditions["devices"].items()]
    if conditions["distance_cm"]:
        seen.append("{:g} to {:g} cm from the screen".format(*conditions["distance_cm"]))
    if conditions["pixel_ratios"]:
        seen.append("scaling " + ", ".join(conditions["pixel_ratios"]))
    if conditions["zoom_changed"]:
        seen.append(f"{conditions['zoom_changed']} changed the zoom during the test")
    lines = [
        f"`{command}`",
        "",
        f"{result['subjects']} subjects; {len(result['excluded'])} screened out; {result['visitors']} visitors who answered "
        "nothing.",
        "",
        f"Looked at: {'; '.join(seen)}.",
        "",
        *(f"- {note}" for note in result["notes"]),
        *(f"- {subject}: {reason}" for subject, reason in result["excluded"].items()),
    ]
    if result["pairs"]:
        p_values = "p {p_value:.2g} of no preference, {p_equal:.2g} of one beyond the margin."
        lines += ["", "## Preference", ""]
        lines += [f"- {sentence(pair)} {p_values.format(**pair)}" for pair in result["pairs"]]
        verdicts = (
            f"verdicts follow from them at {100 * result['level']:g} %" if result["level"] else "none gives a verdict"
        )
        lines += [
            "",
            "Intervals, p-values and verdicts allow for clusters by subject and image. p-values are Holm's over all pairs, and "
            f"{verdicts}; intervals are of each pair alone.",
        ]
    if result["ranking"]:
        ends = lambda row: "too few" if row["low"] is None else f"{row['low']:.0f} to {row['high']:.0f}"
        lines += ["", "## Ranking", "", "| condition | Elo | 95 % interval |", "|---|---|---|"]
        lines += [f"| {row['condition']} | {row['elo']:.0f} | {ends(row)} |" for row in result["ranking"]]
    if result["jnd"]:
        lines += ["", "## Quality from which people see no flicker", ""]
        lines += ["| image | codec | half of the subjects | three quarters |", "|---|---|---|---|"]
        cell = lambda quality: "none" if quality is None else f"{quality:g}"
        lines += [f"| {r['image']} | {r['codec']} | {cell(r['sur50'])} | {cell(r['sur75'])} |" for r in result["jnd"]]
    return "\n".join(lines) + "\n"


def write(result: Mapping[str, Any], folder: Path, command: str) -> None:
    """Writes analysis.json, analysis.md, and for flicker tests jnd.csv (a row an image: the quality that satisfies 50 and
    75 % of the subjects) and jnd_subjects.csv (a row an image and subject)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["jnd"]:
        _write_thresholds(result["jnd"], folder)
    (folder / "analysis.md").write_text(to_markdown(result, command), encoding="utf-8")
