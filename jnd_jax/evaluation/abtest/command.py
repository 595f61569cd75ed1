"""`jnd-jax abtest`: blind tests with people, from images to a verdict."""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import shlex
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jnd_jax.arguments import at_least, between
from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import analysis, answers, build, plan, server
from jnd_jax.files import write_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax abtest`."""
    actions = parser.add_subparsers(dest="action", required=True)
    make = actions.add_parser("build", help="make the test's page")
    make.add_argument("--data", type=Path, required=True, help="folder of original images")
    make.add_argument(
        "--codec",
        action="append",
        default=[],
        metavar="CODEC@GOAL",
        dest="conditions",
        help="a condition, such as jnd-base@bpp=0.25, jpeg@jnd or webp@q=40; give two or more",
    )
    make.add_argument("--flicker", metavar="CODEC", help="also find JNDs of this codec by a flicker test")
    make.add_argument("--flicker-images", type=at_least(0), default=6, metavar="N", help="images in the flicker test")
    make.add_argument("--levels", type=at_least(2), default=16, metavar="N", help="qualities in a flicker staircase")
    make.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N images")
    make.add_argument("--checks", type=at_least(0), default=8, metavar="N", help="attention checks")
    make.add_argument("--repeats", type=at_least(1), default=1, metavar="N", help="how often each pair is shown")
    make.add_argument(
        "--crop", type=at_least(1), default=512, metavar="PIXELS", help="side of the square that is shown"
    )
    make.add_argument("--title", default="Image comparison", help="heading of the page")
    make.add_argument("--consent", type=Path, default=build.CONSENT, metavar="FILE", help="text that subjects agree to")
    make.add_argument(
        "--subjects", type=at_least(1), metavar="N", help="how many will be asked; before, `analyse` gives no verdict"
    )
    make.add_argument(
        "--looks",
        type=at_least(0),
        default=0,
        metavar="K",
        help="analyses before that may give a verdict (default: %(default)s)",
    )
    make.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    size = actions.add_parser("plan", help="how many subjects and images a test needs")
    size.add_argument("--images", type=at_least(2), metavar="N", help="images of the test (default: several)")
    size.add_argument(
        "--share", type=between(0.5, 1), default=0.6, help="preference that is to be shown (default: %(default)s)"
    )
    size.add_argument("--power", type=between(0, 1), default=0.8, help="probability to show it (default: %(default)s)")
    size.add_argument(
        "--spread",
        type=between(0, 10),
        default=plan.SPREAD,
        help="between subjects and images, in logits (default: %(default)s)",
    )
    size.add_argument(
        "--pairs", type=at_least(1), default=1, help="pairs of conditions, for Holm (default: %(default)s)"
    )
    size.add_argument("--looks", type=at_least(0), default=0, metavar="K", help="before the end (default: %(default)s)")
    host = actions.add_parser("serve", help="run the test on this machine")
    host.add_argument("folder", type=Path, metavar="DIR", help="what `build` wrote")
    host.add_argument("--port", type=int, default=8000, help="(default: %(default)s; 0: any that is free)")
    host.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for a lab's network (default: %(default)s)"
    )
    host.add_argument(
        "--links", type=at_least(0), default=0, metavar="N", help="a link for each of N subjects, and no others"
    )
    study = actions.add_parser("analyse", help="what the answers say")
    study.add_argument("answers", type=Path, metavar="DIR", help="folder of the subjects' answers")
    study.add_argument(
        "--test", type=Path, metavar="FILE", help="test.json of `build` (default: the one beside the folder, if any)"
    )
    study.add_argument("--margin", type=between(0, 0.5), default=0.1, help="equality margin of the preference share")
    study.add_argument("--device", action="append", metavar="NAME", help="only who looked at this; may be repeated")
    study.add_argument("--distance", type=float, nargs=2, metavar=("MIN", "MAX"), help="only from so many cm")
    study.add_argument("--same-zoom", action="store_true", help="only who left the zoom alone")
    study.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")


def _build(args: argparse.Namespace) -> None:
    test = build.build(
        args.data,
        args.conditions,
        args.flicker,
        limit=args.limit,
        flicker_images=args.flicker_images,
        levels=args.levels,
        checks=args.checks,
        repeats=args.repeats,
        crop=args.crop,
        title=args.title,
        consent=args.consent,
        subjects=args.subjects,
        looks=args.looks,
    )
    build.write_page(test, args.output)
    print(
        f"{len(test['pairs']) * args.repeats} pairs, {len(test['checks'])} checks, "
        f"{len(test['flickers'])} flicker tests: {args.output / 'index.html'}"
    )


def _plan(args: argparse.Namespace) -> None:
    level = plan.end_level(args.looks) / max(1, args.pairs)
    print(
        f"Subjects for {100 * args.power:g} % power to show a preference of {100 * args.share:g} %, "
        f"spread {args.spread:g}, level {level:g}:"
    )
    for images in [args.images] if args.images else (12, 18, 24, 36, 48):
        count = plan.subjects_needed(images, args.share, args.spread, level, args.power)
        print(f"  {images} images: {'more than 1000 subjects' if count is None else f'{count} subjects'}")
    if args.looks:
        print(
            f"Fix the number with `jnd-jax abtest build --subjects N --looks {args.looks}`. Each of the first {args.looks} "
            f"analyses before N gives verdicts at {100 * plan.EARLY_LEVEL:g} %: stop there, or go on to N."
        )
    else:
        print("Fix the number with `jnd-jax abtest build --subjects N`, and do not stop before.")


def _serve(args: argparse.Namespace) -> None:
    if not (args.folder / "index.html").exists():
        raise JndError(f"{args.folder} holds no test: make one with `jnd-jax abtest build`.")
    numbers = server.invite(args.folder, args.links) if args.links else []
    _read_test(args.folder / "test.json")
    with server.server(args.folder, args.port, args.host) as host:
        shown = socket.gethostname() if args.host == "0.0.0.0" else args.host
        address = f"http://{shown}:{host.server_address[1]}/"
        for number in numbers:
            print(f"{address}?subject={number}")
        print(f"{address} (Ctrl-C ends it; answers go to {args.folder / 'answers'})", flush=True)
        try:
            host.serve_forever()
        except KeyboardInterrupt:
            pass


def _read_test(path: Path) -> dict[str, Any]:
    """The test.json of `abtest build`; JndError if it is none."""
    try:
        test = json.loads(path.read_text(encoding="utf-8"))
        answers.asked_by(test)
        if not isinstance(test["id"], str):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise JndError(
            f"{path} is no test.json of `jnd-jax abtest build`: build the test again, or name the file by --test."
        ) from error
    return test


def _looks(path: Path, now: plan.Look) -> tuple[list[plan.Look], list[plan.Look] | None]:
    """The looks at this test before this one, and all looks with it, or None where it is in the file."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        looks = [plan.Look(str(k["test"]), int(k["subjects"]), str(k["date"]), str(k["options"])) for k in known]
    except (ValueError, TypeError, KeyError) as error:
        example = json.dumps([asdict(now)])
        raise JndError(f"{path} is damaged: write all earlier looks at the test into it, as in {example}.") from error
    same = lambda look: replace(look, date=now.date) == now
    earlier = list(itertools.takewhile(lambda look: not same(look), looks))
    of_test = [look for look in earlier if look.test == now.test]
    return of_test, [*looks, now] if len(earlier) == len(looks) else None


def _analyse(args: argparse.Namespace) -> None:
    beside = args.answers.resolve().parent
    path = args.test or beside / "test.json"
    test = _read_test(path) if args.test or path.exists() else None
    conditions = answers.Conditions(
        devices=tuple(args.device) if args.device else None,
        distance_cm=tuple(args.distance) if args.distance else None,
        same_zoom=args.same_zoom,
    )
    subjects = answers.read(args.answers, test, conditions)
    options = ["--margin", f"{args.margin:g}"] if args.margin != 0.1 else []
    options += [word for name in args.device or () for word in ("--device", name)]
    options += ["--distance", *(f"{cm:g}" for cm in args.distance)] if args.distance else []
    options += ["--same-zoom"] if args.same_zoom else []
    today = datetime.date.today().isoformat()
    look = plan.Look(subjects.kept[0]["test"], len(subjects.kept), today, shlex.join(options))
    fixed = None if test is None else test.get("plan")
    earlier, noted = _looks(beside / "looks.json", look)
    result = analysis.analyse(subjects, margin=args.margin, plan=fixed, looks=earlier)
    # A look counts once its results can be seen, and not where they cannot be written.
    args.output.mkdir(parents=True, exist_ok=True)
    if noted:
        write_bytes(beside / "looks.json", (json.dumps([asdict(each) for each in noted], indent=1) + "\n").encode())
    words = ["jnd-jax", "abtest", "analyse", str(args.answers), *options, "-o", str(args.output)]
    analysis.write(result, args.output, shlex.join(words))
    print((args.output / "analysis.md").read_text(encoding="utf-8"))


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax abtest`; returns the exit status."""
    {"build": _build, "plan": _plan, "serve": _serve, "analyse": _analyse}[args.action](args)
    return 0
