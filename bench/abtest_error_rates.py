"""How often the verdicts of `jnd-jax abtest analyse` err, on simulated subjects.

    python bench/abtest_error_rates.py [--tests 2000]

Answers prefer one side with probability 1 / (1 + exp(-(c + a + b))), a by subject and b by image, both normal with the
deviation of the first column. False preference: the true share is one half. False equality: it is .6, the margin
itself. Power: it is .6. Beside each, what the same answers say if each counted for itself (Wilson's interval).

The second table looks at each test three times before its end, evenly, and stops at the first verdict: as
`abtest build --looks 3` has it, and in brackets with every look at 5 %, as if it were the only one.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import optimize, stats

from jnd_jax.evaluation.abtest import plan, preference

LOOKS = 3


def centre(share: float, spread: float) -> float:
    """c for a mean share."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    mean = lambda c: (weights / (1 + np.exp(-(c + np.sqrt(2) * spread * nodes)))).sum() / weights.sum()
    return optimize.brentq(lambda c: mean(c) - share, -20, 20)


def simulate(
    subjects: int, images: int, share: float, spread: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(answers, subjects, images) of one test in which every subject judges every image."""
    logits = centre(share, spread) + random.normal(0, spread, (subjects, 1)) + random.normal(0, spread, (1, images))
    answers = random.random((subjects, images)) < 1 / (1 + np.exp(-logits))
    rows, columns = np.indices(answers.shape)
    return answers.ravel(), rows.ravel(), columns.ravel()


def independent(answers: np.ndarray, margin: float = 0.1) -> str:
    """The verdict if every answer counted for itself."""
    count, share = len(answers), answers.mean()

    def wilson(z: float) -> tuple[float, float]:
        middle, spread = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
        return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)

    low, high = wilson(stats.norm.ppf(0.975))
    low90, high90 = wilson(stats.norm.ppf(0.95))
    if low90 > 0.5 - margin and high90 < 0.5 + margin:
        return "equal"
    return "first" if low > 0.5 else "second" if high < 0.5 else "open"


def _finds(verdict: str) -> tuple[bool, bool]:
    """Whether a verdict is a preference, and whether it says that the share is within the margin."""
    preferred = verdict.startswith(("first", "second")) and "no worse" not in verdict
    return preferred, verdict == "equal" or "within" in verdict


def rates(subjects: int, images: int, share: float, spread: float, tests: int, seed: int = 0) -> dict[str, tuple]:
    """Shares of tests that find a preference, and that find equality: clustered, independent."""
    random, found = np.random.default_rng(seed), {"preferred": np.zeros(2), "equal": np.zeros(2)}
    for _ in range(tests):
        answers, who, what = simulate(subjects, images, share, spread, random)
        (pair,) = preference.judge([preference.compare("a", "b", answers, who, what)])
        verdicts = (pair.verdict, independent(answers))
        for name, finds in zip(("preferred", "equal"), zip(*map(_finds, verdicts))):
            found[name] += finds
    return {name: tuple(counts / tests) for name, counts in found.items()}


def looked_at(
    subjects: int, images: int, share: float, spread: float, tests: int, planned: bool, seed: int = 0
) -> dict[str, float]:
    """Shares of tests that find a preference and equality, at one look or another, and the subjects asked on average.

    Args:
        subjects: at the end.
        images: of the test.
        share: true.
        spread: in logits.
        tests: simulated.
        planned: whether the looks are; else each gives verdicts at 5 %.
        seed: of the numbers.
    """
    random, fixed = np.random.default_rng(seed), {"subjects": subjects, "looks": LOOKS}
    found, asked = np.zeros(2), 0
    for _ in range(tests):
        answers, who, what = simulate(subjects, images, share, spread, random)
        finds, looks, count = np.zeros(2, bool), [], 0
        for count in (subjects * part // (LOOKS + 1) for part in range(1, LOOKS + 2)):
            level = plan.level(count, fixed, looks) if planned else preference.LEVEL
            pair = preference.compare("a", "b", *(values[who < count] for values in (answers, who, what)))
            finds |= _finds(preference.judge([pair], level)[0].verdict)
            looks.append(plan.Look("t", count, ""))
            if finds.any():
                break
        found, asked = found + finds, asked + count
    return {"preferred": found[0] / tests, "equal": found[1] / tests, "subjects": asked / tests}


def _print_looks(tests: int) -> None:
    print(
        "\n| spread | subjects x images | false preference | false equality | power at 60 % | subjects asked at 60 % |"
    )
    print("|---|---|---|---|---|---|")
    for spread in (0.3, 0.5, 0.8):
        for subjects, images in ((24, 24), (36, 24), (48, 48)):
            size = (subjects, images)
            null = [looked_at(*size, 0.5, spread, tests, planned) for planned in (True, False)]
            at_margin = [looked_at(*size, 0.6, spread, tests, planned, seed=1) for planned in (True, False)]
            cell = lambda both, name, digits=1: "{:.{d}f} % ({:.{d}f} %)".format(
                *(100 * rates[name] for rates in both), d=digits
            )
            print(
                f"| {spread} | {subjects} x {images} | {cell(null, 'preferred')} | {cell(at_margin, 'equal')} "
                f"| {cell(at_margin, 'preferred', 0)} | {at_margin[0]['subjects']:.0f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=2000)
    args = parser.parse_args()
    print("| spread | subjects x images | false preference | false equality | power at 60 % | power as planned |")
    print("|---|---|---|---|---|---|")
    for spread in (0.3, 0.5, 0.8):
        for subjects, images in ((8, 8), (12, 12), (24, 12), (24, 24), (36, 24)):
            null = rates(subjects, images, 0.5, spread, args.tests)["preferred"]
            at_margin = rates(subjects, images, 0.6, spread, args.tests, seed=1)
            cell = lambda pair: f"{100 * pair[0]:.1f} % ({100 * pair[1]:.1f} %)"
            print(
                f"| {spread} | {subjects} x {images} | {cell(null)} | {cell(at_margin['equal'])} "
                f"| {100 * at_margin['preferred'][0]:.0f} % | {100 * plan.power(subjects, images, 0.6, spread):.0f} % |",
                flush=True,
            )
    _print_looks(args.tests)


if __name__ == "__main__":
    main()
