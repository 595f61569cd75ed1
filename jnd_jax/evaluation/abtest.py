"""`jnd-jax abtest`: blind tests with people, from images to a verdict.

build    one static page: pairs judged against the original, and flicker staircases for just-noticeable
differences serve    the page on this machine, each subject's answers written to disk as they come
analyse  preference, equality, ranking and JNDs from the answers
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import math
import os
import re
import shlex
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import codecs, search
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page, subjects
from jnd_jax.evaluation.results import Codec, baseline_codec, find_images, load_image, model_codec
from jnd_jax.jnd import sur

CONSENT = Path(__file__).parent / "templates" / "consent.txt"

_LARGEST_ANSWERS = 4_000_000
_SUBJECT = re.compile(r"[0-9a-f]{16}")


def load_codec(name: str) -> Codec:
    """A conventional codec by its name or description, or a model by its name or file."""
    if name in codecs.BASELINES or name.endswith(".toml"):
        return baseline_codec(name)
    import jnd_jax

    return model_codec(jnd_jax.load(name))


def parse_condition(text: str) -> tuple[str, str]:
    """`CODEC@GOAL` -> (codec, goal); goal as `jnd_jax.search.parse_target` reads it, or q=QUALITY."""
    codec, _, goal = text.rpartition("@")
    if not codec:
        raise JndError(f"write a condition as CODEC@bpp=0.5, CODEC@jnd or CODEC@q=50, not {text!r}")
    return codec, goal


def coded(pixels: np.ndarray, codec: Codec, goal: str) -> tuple[np.ndarray, int]:
    """One image coded for a goal: (decoded image, bytes)."""
    if goal.startswith("q="):
        try:
            quality = float(goal[2:])
        except ValueError as error:
            raise JndError(f"write a quality as q=50, not {goal!r}") from error
        data = codec.encode(pixels, quality)
    else:
        data = search.reach(pixels, codec.encode, codec.decode, codec.qualities, search.parse_target(goal)).data
    return codec.decode(data), len(data)


def _centre(pixels: np.ndarray, size: int) -> np.ndarray:
    top, left = (max(0, (side - size) // 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def build(
    folder: Path,
    conditions: Sequence[str],
    flicker: str | None,
    *,
    limit: int | None = None,
    flicker_images: int = 6,
    levels: int = 16,
    checks: int = 8,
    repeats: int = 1,
    crop: int = 512,
    title: str = "Image comparison",
    consent: Path = CONSENT,
) -> dict[str, Any]:
    """The whole test as data of its page.

    Args:
        folder: original images.
        conditions: `CODEC@GOAL`, none or at least two; every pair of them is compared on every image.
        flicker: codec for flicker staircases, or None.
        limit: only the first images.
        flicker_images: images with a staircase.
        levels: qualities of a staircase, evenly spread over the codec's grid.
        checks: attention checks: the original beside a bad JPEG.
        repeats: how often each pair is shown.
        crop: side of the square that is shown of each image; files are always of the whole image.
        title: heading.
        consent: file with the text that subjects agree to.

    Raises:
        JndError: nothing to compare, or a goal out of a codec's reach.
    """
    if len(set(conditions)) < len(conditions) or len(conditions) == 1 or (not conditions and flicker is None):
        raise JndError("name at least two different conditions, or a codec for the flicker test")
    images = find_images(folder, limit)
    parsed = [
        (text, load_codec(codec), goal)
        for text, (codec, goal) in ((text, parse_condition(text)) for text in conditions)
    ]
    sources: dict[str, str] = {}

    def source(name: str, pixels: np.ndarray) -> str:
        sources[name] = page.data_uri(page.lossless(_centre(pixels, crop)), "image/webp")
        return name

    pairs, bad, flickers, files = [], [], [], []
    flicker_codec = load_codec(flicker) if flicker else None
    for number, image in enumerate(images):
        pixels = load_image(image.path)
        original = source(f"{image.name}|original", pixels)
        shown = {}
        for text, codec, goal in parsed:
            decoded, size = coded(pixels, codec, goal)
            shown[text] = source(f"{image.name}|{text}", decoded)
            files.append(
                {
                    "image": image.name,
                    "condition": text,
                    "bytes": size,
                    "bpp": size * 8 / (pixels.shape[0] * pixels.shape[1]),
                }
            )
        pairs += [
            {"image": image.name, "original": original, "first": shown[a], "second": shown[b], "check": False}
            for a, b in itertools.combinations(conditions, 2)
        ]
        if number < checks and conditions:
            check = codecs.decode("jpeg", codecs.encode("jpeg", pixels, 4))
            bad.append(
                {
                    "image": image.name,
                    "original": original,
                    "first": original,
                    "second": source(f"{image.name}|check", check),
                    "check": True,
                }
            )
        if flicker_codec is not None and number < flicker_images:
            low, high = flicker_codec.grid[0], flicker_codec.grid[-1]
            steps = [
                min(flicker_codec.qualities, key=lambda q: abs(q - goal)) for goal in np.linspace(low, high, levels)
            ]
            flickers.append(
                {
                    "image": image.name,
                    "codec": flicker_codec.name,
                    "original": original,
                    "levels": [
                        {
                            "quality": quality,
                            "source": source(
                                f"{image.name}|{flicker_codec.name}@q={quality:g}",
                                flicker_codec.decode(flicker_codec.encode(pixels, quality)),
                            ),
                        }
                        for quality in dict.fromkeys(steps)
                    ],
                }
            )
    # Few images still give `checks` checks: they come again.
    bad = list(itertools.islice(itertools.cycle(bad), checks)) if bad else []
    test = {
        "title": title,
        "consent": consent.read_text(encoding="utf-8").strip(),
        "repeats": repeats,
        "pairs": pairs,
        "checks": bad,
        "flickers": flickers,
        "files": files,
        "sources": sources,
    }
    return {"id": hashlib.sha256(json.dumps(test, sort_keys=True).encode()).hexdigest()[:16], **test}


def write_page(test: Mapping[str, Any], folder: Path) -> None:
    """Writes index.html, complete in itself, and test.json, the same without the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page.fill("abtest.html", test), encoding="utf-8")
    record = {key: value for key, value in test.items() if key != "sources"}
    (folder / "test.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _progress(record: Mapping[str, Any]) -> tuple[int, bool]:
    """How far a subject is: number of answers, and whether the end was seen."""
    return len(record["answers"]), bool(record.get("finished"))


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the test in `folder` on this machine alone; answers go to folder/answers/SUBJECT.json.

    Every answer is sent with all earlier ones of its subject, and the file is replaced in one step: a closed
    browser loses nothing.
    """
    content = (folder / "index.html").read_bytes()
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))["id"]
    answers = folder / "answers"
    answers.mkdir(exist_ok=True)
    writing = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def _reply(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/":
                self._reply(200, content, "text/html; charset=utf-8")
            else:
                self._reply(404)

        def do_POST(self) -> None:
            try:
                length = int(self.headers.get("Content-Length", ""))
                if self.path != "/answers" or not 0 < length <= _LARGEST_ANSWERS:
                    raise ValueError
                record = json.loads(self.rfile.read(length))
                if record["test"] != test or not _SUBJECT.fullmatch(record["subject"]):
                    raise ValueError
                progress = _progress(record)
            except (ValueError, KeyError, TypeError):
                self._reply(400)
                return
            path = answers / f"{record['subject']}.json"
            # Requests may overtake each other.
            with writing:
                if not path.exists() or _progress(json.loads(path.read_text(encoding="utf-8"))) <= progress:
                    temporary = path.with_suffix(".part")
                    temporary.write_text(json.dumps(record), encoding="utf-8")
                    os.replace(temporary, path)
            self._reply(204)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """All subjects' records in a folder.

    Raises:
        JndError: none, one that is no record, or records of different tests.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["answers"], record["subject"], record["test"]
        except (ValueError, KeyError, TypeError) as error:
            raise JndError(f"{path} is no file of answers: take it out of the folder") from error
        records.append(record)
    if not records:
        raise JndError(f"put the subjects' answers (JSON files) into {folder}")
    if len({record["test"] for record in records}) > 1:
        raise JndError(f"{folder} holds answers to different tests: analyse each in its own folder")
    return records


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
    make.add_argument("--consent", type=Path, default=CONSENT, metavar="FILE", help="text that subjects agree to")
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
        test = build(
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
        write_page(test, args.output)
        print(
            f"{len(test['pairs']) * args.repeats} pairs, {len(test['checks'])} checks, "
            f"{len(test['flickers'])} flicker staircases: {args.output / 'index.html'}"
        )
    elif args.action == "serve":
        if not (args.folder / "index.html").exists():
            raise JndError(f"{args.folder} holds no test: make one with `jnd-jax abtest build`")
        with server(args.folder, args.port) as host:
            print(
                f"http://127.0.0.1:{host.server_address[1]}/ (Ctrl-C ends it; answers go to {args.folder / 'answers'})"
            )
            try:
                host.serve_forever()
            except KeyboardInterrupt:
                pass
    else:
        result = analyse(read_answers(args.answers), args.margin)
        command = shlex.join(["jnd-jax", "abtest", "analyse", str(args.answers), "-o", str(args.output)])
        write_analysis(result, args.output, command)
        print((args.output / "analysis.md").read_text(encoding="utf-8"))
    return 0
