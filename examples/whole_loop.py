"""From what people see to what it is worth: labels, targets, a fine-tune, its evaluation, an A/B test and the savings.

    pip install 'jnd-jax[train,eval]'
    python examples/whole_loop.py photos/ --test held_out/ -o loop/

starts from the model that comes with the package, and asks people twice: in `loop/flicker` from which quality on they see
no flicker in your photos, in `loop/abtest` which of the fine-tuned model, its start and AVIF looks best on images that
training never saw. It stops each time until `--subjects` people have answered the page, with `jnd-jax abtest serve`; run
the same command again to go on. Fewer than six people or test images give no verdict. At the end `loop/comparison/report.html` and
`loop/savings/savings.html` are the results; prices and amounts to change stand in `loop/assumptions.toml`.

With `--scripted`, scripted observers answer in the place of people, and one who does not look: a trial of the whole way
in one go, whose result says nothing about people. What follows `--` goes to train.py:

    python examples/whole_loop.py photos/ --test held_out/ -o loop/ --scripted -- --config.train.steps=500
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import cli, zoo
from jnd_jax.errors import JndError
from jnd_jax.evaluation import savings
from jnd_jax.jnd import datasets, targets
from jnd_jax.metrics import levels

ROOT = Path(__file__).resolve().parents[1]
TUNED = "tuned"


def command(*words: object) -> None:
    """Carries out `jnd-jax ...`, printed first; JndError if it fails."""
    argv = [str(word) for word in words]
    print(f"\n$ {shlex.join(['jnd-jax', *argv])}", flush=True)
    if cli.main(argv):
        raise JndError(f"Repair what `jnd-jax {argv[0]}` complains about, and run this again.")


def program(*words: object) -> None:
    """Runs `python ...` in the project's folder, printed first; JndError if it fails."""
    argv = [str(word) for word in words]
    print(f"\n$ {shlex.join(['python', *argv])}", flush=True)
    if subprocess.run([sys.executable, *argv], cwd=ROOT).returncode:
        raise JndError(f"Repair what `python {' '.join(argv[:2])}` complains about, and run this again.")


def threshold(levels: list[float], number: int, count: int) -> float:
    """Quality from which scripted observer `number` of `count` sees no difference: from a quarter of the levels up to
    three quarters, evenly."""
    share = 0.25 + 0.5 * (number / (count - 1) if count > 1 else 0.5)
    return levels[round(share * (len(levels) - 1))]


def trials(test: Mapping[str, Any], random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """One subject's trials as the page records them, without the choices."""
    pairs = [*test["pairs"] * test["repeats"], *test["checks"]]
    for pair in [pairs[place] for place in random.permutation(len(pairs))]:
        sides = ["first", "second"] if random.random() < 0.5 else ["second", "first"]
        expected = ("left", "right")[sides.index("first")] if pair["check"] else None
        yield {
            "kind": "pair",
            "image": pair["image"],
            "left": pair[sides[0]],
            "right": pair[sides[1]],
            "expected": expected,
        }
    for flicker in test["flickers"]:
        common = {"kind": "flicker", "image": flicker["image"], "codec": flicker["codec"]}
        for level in flicker["levels"]:
            yield common | {"quality": level["quality"], "expected": None}
        for level in flicker["levels"][:3]:
            yield common | {"quality": level["quality"], "expected": "no"}
            yield common | {"quality": level["quality"], "expected": "yes"}


def observe(test: Mapping[str, Any], folder: Path, count: int) -> None:
    """Writes the answers of `count` attentive observers, who see a difference below their `threshold` and prefer
    neither codec, and of one who always presses the same key."""
    levels = {flicker["image"]: [level["quality"] for level in flicker["levels"]] for flicker in test["flickers"]}
    folder.mkdir(exist_ok=True)
    for number in range(count + 1):
        random = np.random.default_rng(number)
        answers = []
        for trial in trials(test, random):
            if number == count:
                choice = "left" if trial["kind"] == "pair" else "yes"
            elif trial["expected"]:
                choice = trial["expected"]
            elif trial["kind"] == "pair":
                choice = str(random.choice(["left", "right"]))
            else:
                choice = "yes" if trial["quality"] < threshold(levels[trial["image"]], number, count) else "no"
            answers.append(trial | {"choice": choice, "ms": int(random.integers(800, 3000))})
        subject = hashlib.sha256(f"{test['id']} {number}".encode()).hexdigest()[:16]
        record = {"test": test["id"], "subject": subject, "answers": answers}
        (folder / f"{subject}.json").write_text(json.dumps(record))


def ask(folder: Path, analysis: Path, args: argparse.Namespace, *build: object) -> None:
    """Builds a test, waits for the planned number of answers or makes them, and analyses them."""
    if not (folder / "index.html").exists():
        command("abtest", "build", *build, "--subjects", args.subjects, "-o", folder)
    answers = folder / "answers"
    if args.scripted and not answers.is_dir():
        observe(json.loads((folder / "test.json").read_text()), answers, args.subjects)
    missing = args.subjects - len(list(answers.glob("*.json")))
    if missing > 0:
        raise JndError(
            f"Let {missing} more people take the test with `jnd-jax abtest serve {folder}`, then run this again."
        )
    command("abtest", "analyse", answers, "-o", analysis)


def make_assumptions(path: Path, today: str, metric: str) -> None:
    """Writes the example of `jnd-jax savings` with this loop's codecs, unless the file is there: then it is somebody's."""
    if not path.exists():
        text = savings.EXAMPLE.read_text()
        scale = levels.AIC if metric in levels.SCALES[levels.AIC].values else levels.KONJND
        for name, value in (("today", today), ("new", TUNED), ("metric", metric), ("scale", scale)):
            text = re.sub(rf'^{name} = "[^"]*"', f'{name} = "{value}"', text, flags=re.M)
        path.write_text(text)


def run(args: argparse.Namespace, training: list[str]) -> None:
    """The whole way; JndError where it has to stop."""
    out = args.output.resolve()
    photos, test = args.photos.resolve(), args.test.resolve()
    model = Path(args.model).resolve() if Path(args.model).is_file() else args.model
    out.mkdir(parents=True, exist_ok=True)

    ask(
        out / "flicker",
        out / "labels",
        args,
        "--data",
        photos,
        "--flicker",
        args.flicker,
        "--flicker-images",
        args.images,
        "--limit",
        args.images,
    )
    for record in datasets.own_test(out / "labels" / "jnd_subjects.csv", photos, args.share):
        targets.write_pair(out / "set", record.name, *record.images())

    tuned = out / f"{TUNED}.safetensors"
    if not tuned.exists():
        program(
            "train.py",
            "--config",
            args.config,
            "--workdir",
            out / "run",
            f"--config.train.init_from={model}",
            f"--config.data.path={out / 'set' / 'Ref'}",
            f"--config.data.jnd_path={out / 'set' / 'JND1'}",
            *training,
        )
        program("-m", "jnd_jax.training.packaging", out / "run", "-o", tuned)

    others = dict.fromkeys([args.today, args.rival, *filter(None, args.against.split(","))])
    command(
        "eval",
        tuned,
        model,
        "--data",
        test,
        "--against",
        ",".join(others),
        "--metrics",
        f"psnr,{args.metric}",
        "-o",
        out / "comparison",
    )
    ask(
        out / "abtest",
        out / "people",
        args,
        "--data",
        test,
        "--codec",
        f"{tuned}@{args.goal}",
        "--codec",
        f"{model}@{args.goal}",
        "--codec",
        f"{args.rival}@{args.goal}",
    )
    make_assumptions(out / "assumptions.toml", args.today, args.metric)
    command(
        "savings",
        "--results",
        out / "comparison",
        "--assumptions",
        out / "assumptions.toml",
        "--people",
        out / "people",
        "-o",
        out / "savings",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos to ask people about and to train with")
    parser.add_argument("--test", type=Path, required=True, metavar="DIR", help="folder of other photos, to judge by")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--model", default=zoo.DEFAULT, help="name or file of the model to start from (default: %(default)s)"
    )
    parser.add_argument("--config", default="configs/jnd_image.py", help="of the fine-tune (default: %(default)s)")
    parser.add_argument(
        "--flicker",
        default=zoo.DEFAULT,
        metavar="CODEC",
        help="codec whose artefacts people look for; the model itself is best (default: %(default)s)",
    )
    parser.add_argument(
        "--images", type=int, default=50, metavar="N", help="first N photos that people see (default: 50)"
    )
    parser.add_argument(
        "--share", type=float, default=0.75, help="of people whom a target satisfies (default: %(default)s)"
    )
    parser.add_argument("--today", default="jpeg", metavar="CODEC", help="the codec in use (default: %(default)s)")
    parser.add_argument(
        "--rival", default="avif10", metavar="CODEC", help="the best one can have instead (default: %(default)s)"
    )
    parser.add_argument(
        "--against", default="webp,avif,jxl", metavar="CODECS", help="more to compare with (default: %(default)s)"
    )
    parser.add_argument("--metric", default="ssimulacra2", help="that says what looks the same (default: %(default)s)")
    parser.add_argument(
        "--goal", default="jnd", help="at which both codecs stand in the A/B test (default: %(default)s)"
    )
    parser.add_argument(
        "--subjects", type=int, default=6, metavar="N", help="people to ask, or scripted ones (default: %(default)s)"
    )
    parser.add_argument("--scripted", action="store_true", help="let scripted observers answer in the place of people")
    argv, training = sys.argv[1:], []
    if "--" in argv:
        cut = argv.index("--")
        argv, training = argv[:cut], argv[cut + 1 :]
    try:
        run(parser.parse_args(argv), training)
    except JndError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
