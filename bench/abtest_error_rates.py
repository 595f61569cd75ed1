"""How often the verdicts of `jnd-jax abtest analyse` err, on simulated subjects.

    python bench/abtest_error_rates.py [--tests 2000]

Answers prefer one side with probability 1 / (1 + exp(-(c + a + b))), a by subject and b by image, both normal with the
deviation of the first column. False preference: the true share is one half. False equality: it is .6, the margin
itself. Power: it is .6. Beside each, what the same answers say if each counted for itself (Wilson's interval).
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import optimize, stats

from jnd_jax.evaluation.abtest import plan, preference


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


def rates(subjects: int, images: int, share: float, spread: float, tests: int, seed: int = 0) -> dict[str, tuple]:
    """Shares of tests that find a preference, and that find equality: clustered, independent."""
    random, found = np.random.default_rng(seed), {"preferred": np.zeros(2), "equal": np.zeros(2)}
    for _ in range(tests):
        answers, who, what = simulate(subjects, images, share, spread, random)
        (pair,) = preference.judge([preference.compare("a", "b", answers, who, what)])
        verdicts = (pair.verdict, independent(answers))
        found["preferred"] += [v.startswith(("first", "second")) and "no worse" not in v for v in verdicts]
        found["equal"] += [v == "equal" or "within" in v for v in verdicts]
    return {name: tuple(counts / tests) for name, counts in found.items()}


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


if __name__ == "__main__":
    main()
