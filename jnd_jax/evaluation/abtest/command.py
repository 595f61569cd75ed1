"""`jnd-jax abtest`: blind tests with people, from images to a verdict."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import analysis, answers, build, server


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
    make.add_argument("--flicker-images", type=int, default=6, metavar="N", help="images in the flicker test")
    make.add_argument("--levels", type=int, default=16, metavar="N", help="qualities in a flicker staircase")
    make.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    make.add_argument("--checks", type=int, default=8, metavar="N", help="attention checks")
    make.add_argument("--repeats", type=int, default=1, metavar="N", help="how often each pair is shown")
    make.add_argument("--crop", type=int, default=512, metavar="PIXELS", help="side of the square that is shown")
    make.add_argument("--title", default="Image comparison", help="heading of the page")
    make.add_argument("--consent", type=Path, default=build.CONSENT, metavar="FILE", help="text that subjects agree to")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    host = actions.add_parser("serve", help="run the test on this machine")
    host.add_argument("folder", type=Path, metavar="DIR", help="what `build` wrote")
    host.add_argument("--port", type=int, default=8000)
    study = actions.add_parser("analyse", help="what the answers say")
    study.add_argument("answers", type=Path, metavar="DIR", help="folder of the subjects' answers")
    study.add_argument("--margin", type=float, default=0.1, help="equality margin of the preference share")
    study.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax abtest`; returns the exit status."""
    if args.action == "build":
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
        )
        build.write_page(test, args.output)
        print(
            f"{len(test['pairs']) * args.repeats} pairs, {len(test['checks'])} checks, "
            f"{len(test['flickers'])} flicker staircases: {args.output / 'index.html'}"
        )
    elif args.action == "serve":
        if not (args.folder / "index.html").exists():
            raise JndError(f"{args.folder} holds no test: make one with `jnd-jax abtest build`")
        with server.server(args.folder, args.port) as host:
            print(
                f"http://127.0.0.1:{host.server_address[1]}/ (Ctrl-C ends it; answers go to {args.folder / 'answers'})"
            )
            try:
                host.serve_forever()
            except KeyboardInterrupt:
                pass
    else:
        result = analysis.analyse(answers.read_answers(args.answers), args.margin)
        command = shlex.join(["jnd-jax", "abtest", "analyse", str(args.answers), "-o", str(args.output)])
        analysis.write_analysis(result, args.output, command)
        print((args.output / "analysis.md").read_text(encoding="utf-8"))
    return 0
