"""Reading, checking and screening the subjects' answers: nothing in them is trusted.

A record is what the page sends: test, subject, answers, and the conditions they were given under (see `Conditions`).
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import copies, psychometric

SUBJECT = re.compile(r"[0-9a-f]{16}")
CHOICES = {"pair": ("left", "right"), "flicker": ("yes", "no")}
# Nobody sees, decides and presses faster, time after time: simple reactions to light take 200 ms.
HUMAN_MS = 250
# From so many answers on, two equal lists of answers and times are copies.
COPY_LENGTH = 5


@dataclass(frozen=True)
class Subjects:
    """The records of a test, sorted.

    Attributes:
        kept: records whose answers count.
        excluded: subject (or file) -> why its answers do not count.
        visitors: who answered nothing.
        notes: what the reader has to know, a sentence each.
    """

    kept: list[dict[str, Any]]
    excluded: dict[str, str]
    visitors: int = 0
    notes: list[str] = field(default_factory=list)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _check_answer(answer: Any) -> None:
    """Raises ValueError with what is wrong."""
    if not isinstance(answer, dict) or answer.get("kind") not in list(CHOICES):
        raise ValueError("an answer of no known kind")
    choices = CHOICES[answer["kind"]]
    if answer.get("choice") not in choices or answer.get("expected", "") not in (None, *choices):
        raise ValueError(f"a choice that is neither {choices[0]} nor {choices[1]}")
    if not isinstance(answer.get("image"), str) or not _is_number(answer.get("ms"), 0, 1e8):
        raise ValueError("an answer without image or time")
    if answer["kind"] == "pair":
        sides = (answer.get("left"), answer.get("right"))
        if not all(isinstance(side, str) and side.startswith(f"{answer['image']}|") for side in sides):
            raise ValueError("a pair whose sides are not of its image")
        if sides[0] == sides[1]:
            raise ValueError("a pair of one picture with itself")
    elif not isinstance(answer.get("codec"), str) or not _is_number(answer.get("quality"), -1e6, 1e6):
        raise ValueError("a flicker trial without codec or quality")


def check(record: Any) -> dict[str, Any]:
    """The record, if it is one of this page.

    Raises:
        ValueError: what is wrong with it, in words that follow "damaged: ".
    """
    if not isinstance(record, dict) or not isinstance(record.get("test"), str):
        raise ValueError("no record of answers")
    if not isinstance(record.get("subject"), str) or not SUBJECT.fullmatch(record["subject"]):
        raise ValueError("no subject's number")
    if not isinstance(record.get("answers"), list) or len(record["answers"]) > 100_000:
        raise ValueError("no list of answers")
    for answer in record["answers"]:
        _check_answer(answer)
    return record


@dataclass(frozen=True)
class Asked:
    """What a test's page asks.

    Attributes:
        trials: (left, right) of a pair, or (image, codec, quality) of a flicker trial -> the right answers that the page
            knows for it, None where there is none.
        times: sides of a pair -> how often the page shows it to a subject.
    """

    trials: Mapping[tuple, set[str | None]]
    times: Mapping[frozenset, int]

    def could_give(self, answers: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one subject's answers can come from the page: its questions, with its right answers, no oftener."""
        shown: Counter[frozenset] = Counter()
        for answer in answers:
            if answer["kind"] == "pair":
                trial = (answer["left"], answer["right"])
                shown[frozenset(trial)] += 1
            else:
                trial = (answer["image"], answer["codec"], answer["quality"])
            if answer["expected"] not in self.trials.get(trial, ()):
                return False
        return all(count <= self.times[sides] for sides, count in shown.items())


def asked_by(test: Mapping[str, Any]) -> Asked:
    """What the page of `abtest build`'s test.json asks.

    Raises:
        KeyError, TypeError: it is no such file.
    """
    trials: dict[tuple, set[str | None]] = {}
    times: Counter[frozenset] = Counter()
    for pair in [*test["pairs"], *test["checks"]]:
        times[frozenset((pair["first"], pair["second"]))] += 1 if pair["check"] else test["repeats"]
        for left, right in ((pair["first"], pair["second"]), (pair["second"], pair["first"])):
            right_answer = ("left" if left == pair["first"] else "right") if pair["check"] else None
            trials.setdefault((left, right), set()).add(right_answer)
    for flicker in test["flickers"]:
        for level in flicker["levels"]:
            trials[(flicker["image"], flicker["codec"], level["quality"])] = {None, "no", "yes"}
    return Asked(trials, times)


def guessing_probability(right: int, total: int) -> float:
    """Probability that guessing (one half each) gets at least `right` of `total`."""
    return sum(math.comb(total, k) for k in range(right, total + 1)) / 2**total


def screen(answers: Sequence[Mapping[str, Any]], level: float = 0.05) -> str | None:
    """Why one subject's answers cannot be used, or None.

    In each part of the test a subject must pass the attention checks (pairs in which one side is the original; flicker
    trials without any difference or with a plain one) better than guessing would at `level`, or without a single error
    where there are too few for that; must not press one side nearly always; and must not be faster than people are.

    Args:
        answers: of one subject, as the page stores them; at least one.
        level: significance.
    """
    for kind in CHOICES:
        checks = [a["choice"] == a["expected"] for a in answers if a["kind"] == kind and a.get("expected") is not None]
        right, total = sum(checks), len(checks)
        if total and guessing_probability(right, total) >= level and (right < total or 0.5**total < level):
            return f"attention checks: {right} of {total} right, as by guessing"
    sides = [a["choice"] for a in answers if a["kind"] == "pair" and a.get("expected") is None]
    if len(sides) >= 10:
        most = max(sides.count("left"), sides.count("right"))
        if 2 * guessing_probability(most, len(sides)) < 0.001 and most >= 0.9 * len(sides):
            return f"one side: {most} of {len(sides)} answers"
    times = [answer["ms"] for answer in answers]
    if statistics.median(times) < HUMAN_MS:
        return f"times below human: half of the answers within {statistics.median(times):.0f} ms"
    return None


def _read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The records of a folder, and the files that are none with the reason."""
    records, damaged = [], {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = check(json.loads(path.read_text(encoding="utf-8")))
            # Half of a surrogate pair is JSON, but no text.
            json.dumps(record, ensure_ascii=False).encode()
            records.append(record)
        except (ValueError, RecursionError) as error:
            reason = "no JSON" if isinstance(error, (json.JSONDecodeError, UnicodeError)) else str(error)
            damaged[path.name] = f"damaged: {reason}"
    if not records and not damaged:
        raise JndError(f"Put the subjects' answers (JSON files) into {folder}.")
    return records, damaged


def _without_copies(records: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One record a subject, the longest, no two with the same answers at the same times, and no changed copies."""
    by_subject: dict[str, dict[str, Any]] = {}
    for record in records:
        known = by_subject.get(record["subject"])
        if known is None or len(record["answers"]) > len(known["answers"]):
            by_subject[record["subject"]] = record
    first_with, reasons = {}, {}
    for subject, record in by_subject.items():
        key = json.dumps(record["answers"], sort_keys=True)
        original = first_with.setdefault(key, subject)
        if original != subject and len(record["answers"]) >= COPY_LENGTH:
            reasons[subject] = f"a copy of {original}"
    left = lambda: [record for subject, record in by_subject.items() if subject not in reasons]
    reasons |= copies.find(left())
    return left(), reasons


@dataclass(frozen=True)
class Conditions:
    """Under which a subject's answers count; None: any.

    Attributes:
        devices: as the page names them: desktop monitor, laptop, tablet, phone.
        distance_cm: least and greatest distance from the screen.
        same_zoom: whether those who changed the zoom during the test are left out.
    """

    devices: tuple[str, ...] | None = None
    distance_cm: tuple[float, float] | None = None
    same_zoom: bool = False

    def meets(self, record: Mapping[str, Any]) -> bool:
        """Whether a record was made under these conditions."""
        if self.devices is not None and record.get("device") not in self.devices:
            return False
        if self.distance_cm is not None and not _is_number(record.get("distance_cm"), *self.distance_cm):
            return False
        return not (self.same_zoom and record.get("zoom_changes"))


def read(folder: Path, test: Mapping[str, Any] | None = None, conditions: Conditions = Conditions()) -> Subjects:
    """All subjects of a folder, checked and screened.

    Args:
        folder: with a JSON file for each subject.
        test: what `abtest build` wrote as test.json; with it, answers that its page never asked for do not count.
        conditions: under which answers count.

    Raises:
        JndError: no file, answers to different tests, or nobody is left.
    """
    records, excluded = _read(folder)
    records, copied = _without_copies(records)
    excluded |= copied
    wanted = {record["test"] for record in records} if test is None else {test["id"]}
    if len(wanted) > 1 or any(record["test"] not in wanted for record in records):
        raise JndError(f"{folder} holds answers to different tests: analyse each in its own folder.")
    present = [record for record in records if record["answers"]]
    notes = []
    if test is None:
        notes.append("The test's test.json was not given, so nobody checked that its page asked these questions.")
    kept, asked = [], None if test is None else asked_by(test)
    for record in present:
        foreign = asked is not None and not asked.could_give(record["answers"])
        reason = "answers that the page never asked for" if foreign else screen(record["answers"])
        if not reason and not conditions.meets(record):
            reason = "other conditions than asked for"
        if reason:
            excluded[record["subject"]] = reason
        else:
            kept.append(record)
    if not kept:
        reasons = "; ".join(sorted(set(excluded.values()))) or "nobody answered"
        everybody = excluded.keys() | {record["subject"] for record in records}
        raise JndError(f"All of {len(everybody)} subjects were screened out ({reasons}): ask more people.")
    return Subjects(kept, excluded, visitors=len(records) - len(present), notes=notes)


def error_rates(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """(guess, lapse) of the flicker trials: "yes" without a difference, "no" with a plain one, over all subjects."""
    checks = [a for record in records for a in record["answers"] if a["kind"] == "flicker" and a.get("expected")]
    rates = []
    for expected in ("no", "yes"):
        wrong = [answer["choice"] != expected for answer in checks if answer["expected"] == expected]
        rates.append(psychometric.rate(sum(wrong), len(wrong)))
    return rates[0], rates[1]
