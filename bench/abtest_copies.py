"""How often `jnd-jax abtest analyse` takes honest people for copies, and which copies it finds.

    python bench/abtest_copies.py [--folders 1000]

Honest: folders of 24 people who answer 24 pairs and 8 checks, each asked about in an order of the person's own. People choose alike
in 95 % of the answers, and think long about the same questions (deviation .5 in logarithms of time). Their own times scatter
by .4, or for steady people by .2, less than people's choices do; fast people take .4 s; a coarse clock counts tenths of
seconds. Copies: of one of 12 people, with every time changed at random by so many percent at most and a tenth of the
choices edited.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from jnd_jax.evaluation.abtest import copies

PAIRS, CHECKS = 24, 8


def people(
    count: int,
    random: np.random.Generator,
    *,
    pairs: int = PAIRS,
    checks: int = CHECKS,
    scatter: float = 0.4,
    seconds: float = 3.0,
    clock: int = 1,
) -> list[dict[str, Any]]:
    """Records of honest people who agree with each other.

    Args:
        count: of people.
        random: numbers.
        pairs: asked about.
        checks: of attention.
        scatter: of one person's times for one question, deviation of their logarithm.
        seconds: that people take.
        clock: its step in ms.
    """
    hard = random.normal(0, 0.5, pairs + checks)
    records = []
    for number in range(count):
        answers = []
        for question in random.permutation(pairs + checks).tolist():
            image, check = f"i{question % pairs}", question >= pairs
            sides = [f"{image}|original", f"{image}|check"] if check else [f"{image}|a", f"{image}|b"]
            swap = random.random() < 0.5
            # The first of the sides looks better to nearly all.
            choice = "left" if swap == (not check and random.random() < 0.05) else "right"
            ms = 1000 * seconds * np.exp(hard[question] * (seconds > 1) + scatter * random.normal())
            answers.append(
                {"kind": "pair", "image": image, "left": sides[swap], "right": sides[not swap], "choice": choice}
                | {
                    "expected": ("right" if swap else "left") if check else None,
                    "ms": max(clock, round(ms / clock) * clock),
                }
            )
        records.append({"test": "t", "subject": f"{number:016x}", "answers": answers})
    return records


def forged(
    record: dict[str, Any],
    count: int,
    random: np.random.Generator,
    *,
    jitter: float,
    shuffled: bool = False,
    edited: float = 0.1,
) -> list[dict[str, Any]]:
    """Copies of a record under numbers of their own.

    Args:
        record: of the person.
        count: of copies.
        random: numbers.
        jitter: share by which each time changes at most.
        shuffled: whether the answers are put into another order.
        edited: share of choices turned around.
    """
    other = {"left": "right", "right": "left"}
    made = []
    for number in range(count):
        answers = [
            answer
            | {"ms": round(answer["ms"] * random.uniform(1 - jitter, 1 + jitter))}
            | ({"choice": other[answer["choice"]]} if answer["expected"] is None and random.random() < edited else {})
            for answer in record["answers"]
        ]
        if shuffled:
            answers = [answers[place] for place in random.permutation(len(answers))]
        made.append(record | {"subject": f"{0xF000 + number:016x}", "answers": answers})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=1000)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    kinds = {
        "as people are": {},
        "steady": {"scatter": 0.2},
        "steady, fast": {"scatter": 0.2, "seconds": 0.4},
        "steady, fast, a coarse clock": {"scatter": 0.2, "seconds": 0.4, "clock": 100},
        "the same, 200 pairs": {"scatter": 0.2, "seconds": 0.4, "clock": 100, "pairs": 200},
        "one pair, 24 times": {"pairs": 1, "checks": 31},
    }
    print("| honest people | folders with a false copy | people left out |")
    print("|---|---|---|")
    for name, kind in kinds.items():
        found = [len(copies.find(people(24, random, **kind))) for _ in range(args.folders)]
        print(
            f"| {name} | {sum(map(bool, found))} of {args.folders} | {sum(found)} of {24 * args.folders} |", flush=True
        )
    print("\n| times changed by | found of 12 copies | found if also put into another order | the same, 88 answers |")
    print("|---|---|---|---|")
    tests = max(1, args.folders // 20)
    for jitter in (0.02, 0.05, 0.1, 0.15, 0.2, 0.5):
        shares = []
        for shuffled, pairs in ((False, PAIRS), (True, PAIRS), (True, 80)):
            found = 0
            for _ in range(tests):
                honest = people(12, random, pairs=pairs)
                found += len(copies.find([*honest, *forged(honest[0], 12, random, jitter=jitter, shuffled=shuffled)]))
            shares.append(f"{100 * found / tests / 12:.1f} %")
        print(f"| {100 * jitter:g} % | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
