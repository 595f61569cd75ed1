"""Copies of one person's answers that were changed afterwards: times shifted, choices or the order edited.

Two signs tell a copy from a second person. Neither looks at the choices, so people who think alike stay.

- Order: the page draws the order and the sides of its pairs anew for each subject.
- Times: nobody repeats response times. Those of one person to one question scatter by a fifth at the very least, so
  that two people, brought to the same speed, come within `CLOSE` of each other in 28 % of their answers at most; in
  somewhat more where both are fast and their clocks are coarse. `HUMANLY_CLOSE` allows for that.

`bench/abtest_copies.py` measures how often honest people are taken for copies, and which copies are found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# In logarithms: about 10 %.
CLOSE = 0.1
HUMANLY_CLOSE = 0.4
# Bound of the chance that a sign takes anybody of an honest folder for a copy.
LEVEL = 0.001


@dataclass(frozen=True)
class _Run:
    """One subject's way through the page.

    Attributes:
        subject: number.
        order: code of each pair with its sides, as they came.
        questions: codes of what was asked, sorted; the n-th time of a question is a question of its own.
        times: logarithms of the times that they took.
    """

    subject: str
    order: np.ndarray
    questions: np.ndarray
    times: np.ndarray


def _run(record: Mapping[str, Any], codes: dict[Hashable, int]) -> _Run:
    """Codes are shared by all runs, and grow."""
    code = lambda key: codes.setdefault(key, len(codes))
    order, asked, times = [], Counter(), {}
    for answer in record["answers"]:
        if answer["kind"] == "pair":
            order.append(code((answer["left"], answer["right"])))
            question = frozenset((answer["left"], answer["right"]))
        else:
            question = (answer["image"], answer["codec"], answer["quality"], answer["expected"])
        asked[question] += 1
        times[code((question, asked[question]))] = math.log(max(1, answer["ms"]))
    questions = sorted(times)
    seconds = np.array([times[question] for question in questions])
    return _Run(record["subject"], np.array(order, int), np.array(questions, int), seconds)


def _beyond(count: int, total: int, chance: float, level: float) -> bool:
    """Whether `count` of `total` or more happen with a probability below `level` if each has `chance`."""
    from scipy import special

    return bool(special.bdtrc(count - 1, total, chance) < level)


def _same_order(run: _Run, other: _Run, level: float) -> str | None:
    total = min(len(run.order), len(other.order))
    if not total:
        return None
    same = int((run.order[:total] == other.order[:total]).sum())
    # That two places drawn at random, one in each run, hold the same.
    kinds, counts = np.unique(run.order, return_counts=True)
    shares = dict(zip(kinds.tolist(), (counts / len(run.order)).tolist()))
    chance = float(np.mean([shares.get(pair, 0.0) for pair in other.order.tolist()]))
    return f"{same} of {total} pairs in the same random order" if _beyond(same, total, chance, level) else None


def _same_times(run: _Run, other: _Run, level: float) -> str | None:
    _, own, others = np.intersect1d(run.questions, other.questions, assume_unique=True, return_indices=True)
    if not len(own):
        return None
    ratios = run.times[own] - other.times[others]
    close = int((np.abs(ratios - np.median(ratios)) < CLOSE).sum())
    if _beyond(close, len(own), HUMANLY_CLOSE, level):
        return f"{close} of {len(own)} times nearer than people can repeat them"
    return None


def find(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Subjects who are copies -> of whom, and why.

    Of records that resemble each other, directly or over others, the longest is kept.

    Args:
        records: one a subject.
    """
    codes: dict[Hashable, int] = {}
    runs = [_run(record, codes) for record in sorted(records, key=lambda record: -len(record["answers"]))]
    level = LEVEL / max(1, math.comb(len(runs), 2))
    origins, reasons = {}, {}
    for number, run in enumerate(runs):
        for earlier in runs[:number]:
            sign = _same_order(run, earlier, level) or _same_times(run, earlier, level)
            if sign:
                origins[run.subject] = origins.get(earlier.subject, earlier.subject)
                reasons[run.subject] = f"a copy of {origins[run.subject]}: {sign}"
                break
    return reasons
