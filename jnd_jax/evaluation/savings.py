"""`jnd-jax savings`: what changing the codec is worth, from a measured comparison and a page of assumptions.

The saving in bits is the measured one at equal look (bits at one JND, mean over the test images), with its 95
% interval; money follows by arithmetic, and no figure goes beyond that interval.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import metrics, zoo
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page
from jnd_jax.evaluation.abtest import analysis as abtest
from jnd_jax.evaluation.results import Results

EXAMPLE = Path(__file__).parent / "templates" / "assumptions.toml"
SENSITIVITY = 0.25


@dataclass(frozen=True)
class Assumptions:
    """One field a line of the assumptions file; see templates/assumptions.toml for their meaning and
    units.
    """

    currency: str
    today: str
    new: str
    metric: str
    images_stored: float
    images_served_per_month: float
    average_kilobytes: float
    average_megapixels: float
    share_delivered_new: float
    keep_today_files: bool
    traffic_price_per_gb: float
    storage_price_per_gb_month: float
    cpu_price_per_hour: float
    decode_on_servers_share: float
    training_cost: float
    migration_cost: float
    running_cost_per_month: float
    horizon_months: float


@dataclass(frozen=True)
class Measured:
    """What the comparison measured at equal look.

    Attributes:
        ratio: bytes of the new codec for one byte of today's.
        low: lower end of its 95 % interval (the best case).
        high: upper end (the worst case).
        images: number of test images.
        t: just-noticeable differences allowed.
        encode_s: seconds a megapixel of the new encoder.
        decode_s: seconds a megapixel of the new decoder.
    """

    ratio: float
    low: float
    high: float
    images: int
    t: float
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class Money:
    """One scenario.

    Attributes:
        saved_per_month: traffic and storage saved less running and decoding cost.
        traffic_per_month: saved.
        storage_per_month: saved (negative: it grows, today's files being kept).
        decode_per_month: cost.
        once: training, migration and encoding of all stored images.
        payback_months: infinite if it never pays back.
        net: over the horizon.
        return_on_investment: net / once, infinite without any cost.
    """

    saved_per_month: float
    traffic_per_month: float
    storage_per_month: float
    decode_per_month: float
    once: float
    payback_months: float
    net: float
    return_on_investment: float


def read_assumptions(path: Path) -> Assumptions:
    """Reads and checks an assumptions file.

    Raises:
        JndError: not TOML, a line too few or too many, or a value of the wrong kind or range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JndError(f"{path} cannot be read as TOML ({error}): start from `jnd-jax savings --example`") from error
    kinds = {
        field.name: {"str": str, "bool": bool, "float": (int, float)}[str(field.type)] for field in fields(Assumptions)
    }
    for name in kinds.keys() ^ values.keys():
        raise JndError(
            f"{'add' if name in kinds else 'take out'} the line `{name}` {'to' if name in kinds else 'of'} {path}"
        )
    for name, value in values.items():
        number = kinds[name] == (int, float)
        if not isinstance(value, kinds[name]) or (number and (isinstance(value, bool) or not 0 <= value < math.inf)):
            raise JndError(f"`{name}` in {path} must be {'a number, zero or more' if number else kinds[name].__name__}")
        if "share" in name and value > 1:
            raise JndError(f"`{name}` in {path} is a share: give 0 to 1")
    return Assumptions(**values)


def measure(results: Results, assumptions: Assumptions, t: float = 1.0) -> Measured:
    """Reads off a comparison how the codecs compare at equal look; intervals by resampling images (pairs).

    Raises:
        JndError: a codec was not measured, or does not reach the look on every image.
    """
    found = {}
    for name in (assumptions.today, assumptions.new):
        records = [r for r in results.latest("jnd", name) if (r["metric"], r["t"]) == (assumptions.metric, t)]
        if not records:
            raise JndError(
                f"the results hold no {t:g} JND by {assumptions.metric} of {name}: run `jnd-jax eval` with it"
            )
        missed = sum(not record["reached"] for record in records)
        if missed:
            raise JndError(
                f"{name} does not reach {t:g} JND by {assumptions.metric} on {missed} of {len(records)} "
                "images: no saving at equal look can be stated"
            )
        found[name] = {record["digest"]: record["bpp"] for record in records}
    today, new = found[assumptions.today], found[assumptions.new]
    common = sorted(today.keys() & new.keys())
    if not common:
        raise JndError("the two codecs were measured on different images: run `jnd-jax eval` with both")
    a, b = (np.array([bpp[digest] for digest in common]) for bpp in (today, new))
    rows = np.random.default_rng(0).integers(0, len(common), (4000, len(common)))
    low, high = np.percentile(b[rows].sum(1) / a[rows].sum(1), [2.5, 97.5])
    points = results.latest("point", assumptions.new)
    encode, decode = (
        float(np.median([p[field] * 1e6 / (p["width"] * p["height"]) for p in points]))
        for field in ("encode_s", "decode_s")
    )
    return Measured(float(b.sum() / a.sum()), float(low), float(high), len(common), t, encode, decode)


def calculate(assumptions: Assumptions, ratio: float, encode_s: float, decode_s: float) -> Money:
    """The money of one scenario.

    Args:
        assumptions: prices and amounts.
        ratio: bytes of the new codec for one of today's.
        encode_s: seconds a megapixel to encode.
        decode_s: seconds a megapixel to decode.
    """
    a = assumptions
    gigabytes = a.average_kilobytes * 1e3 / 1e9
    delivered = a.images_served_per_month * a.share_delivered_new
    traffic = delivered * gigabytes * (1 - ratio) * a.traffic_price_per_gb
    kept = 1.0 if a.keep_today_files else 0.0
    storage = a.images_stored * gigabytes * (1 - kept - ratio) * a.storage_price_per_gb_month
    cpu = a.average_megapixels * a.cpu_price_per_hour / 3600
    decoding = delivered * a.decode_on_servers_share * decode_s * cpu
    once = a.training_cost + a.migration_cost + a.images_stored * encode_s * cpu
    saved = traffic + storage - decoding - a.running_cost_per_month
    net = saved * a.horizon_months - once
    return Money(
        saved,
        traffic,
        storage,
        decoding,
        once,
        once / saved if saved > 0 else math.inf,
        net,
        net / once if once > 0 else math.inf,
    )


def sensitivity(assumptions: Assumptions, measured: Measured) -> list[dict[str, Any]]:
    """Net result when one number is a quarter lower or higher, the most influential first."""
    rows = []
    numbers = [field.name for field in fields(Assumptions) if field.type == "float"]
    for name in ["measured ratio of bytes", *numbers]:
        nets = []
        for factor in (1 - SENSITIVITY, 1 + SENSITIVITY):
            changed, ratio = assumptions, measured.ratio
            if name in numbers:
                value = getattr(assumptions, name) * factor
                changed = replace(assumptions, **{name: min(value, 1.0) if "share" in name else value})
            else:
                ratio *= factor
            nets.append(calculate(changed, ratio, measured.encode_s, measured.decode_s).net)
        rows.append({"name": name, "lower": nets[0], "higher": nets[1]})
    return sorted(rows, key=lambda row: -abs(row["higher"] - row["lower"]))


def _amount(value: float, currency: str) -> str:
    return f"{value:,.0f} {currency}"


def _months(value: float) -> str:
    return "never" if math.isinf(value) else f"after {value:.1f} months"


def verdict(
    assumptions: Assumptions, measured: Measured, expected: Money, worst: Money, best: Money
) -> tuple[str, str]:
    """What the files save and what that is worth, a sentence or two of plain words each; whether it pays is judged
    over the whole measured interval.
    """
    a = assumptions
    change = 100 * (1 - measured.ratio)
    look = f"{metrics.lookup(a.metric).title}, {measured.images} images"
    ends = sorted((100 * abs(1 - measured.high), 100 * abs(1 - measured.low)))
    interval = f"{ends[0]:.0f} to {ends[1]:.0f} %; {look}"
    if measured.high < 1:
        bits = f"{a.new} needs {change:.0f} % fewer bytes than {a.today} at equal look ({interval})."
    elif measured.low > 1:
        bits = f"{a.new} needs {-change:.0f} % MORE bytes than {a.today} at equal look ({interval})."
    else:
        bits = (
            f"At equal look no difference in bytes between {a.new} and {a.today} is shown "
            f"({100 * (measured.low - 1):+.0f} to {100 * (measured.high - 1):+.0f} %; {look})."
        )
    horizon = f"{a.horizon_months:g} months"
    low, middle, high = (_amount(money.net, a.currency) for money in (worst, expected, best))
    if worst.net > 0:
        money = (
            f"The change pays back {_months(expected.payback_months)} and is worth {middle} in {horizon}, "
            f"at least {low} and at most {high} within the measured interval."
        )
    elif best.net <= 0:
        money = (
            f"The change does NOT pay within {horizon}: it loses {_amount(-expected.net, a.currency)}, "
            f"{_amount(-best.net, a.currency)} even at the best end of the measured interval."
        )
    else:
        money = (
            f"Whether the change pays is NOT settled: over {horizon} the measured interval spans {low} to "
            f"{high}. More test images narrow it."
        )
    return bits, money


def meanings() -> dict[str, str]:
    """What each line of an assumptions file means, where the example's comments say so."""
    return dict(re.findall(r"^(\w+) = .*?  # (.+)$", EXAMPLE.read_text(encoding="utf-8"), re.M))


def report(assumptions: Assumptions, measured: Measured, people: list[str], command: str) -> dict[str, Any]:
    """Everything that the page and the Markdown file show, as plain data.

    Args:
        assumptions: as read.
        measured: as measured.
        people: results of a subject test in sentences, if there was one.
        command: that makes the page.
    """
    scenarios = {
        name: calculate(assumptions, ratio, measured.encode_s, measured.decode_s)
        for name, ratio in (("worst", measured.high), ("measured", measured.ratio), ("best", measured.low))
    }
    months = list(range(0, math.ceil(assumptions.horizon_months) + 1))
    bits, money = verdict(assumptions, measured, scenarios["measured"], scenarios["worst"], scenarios["best"])
    return {
        "verdict": f"{bits} {money}",
        "bits": bits,
        "money": money,
        "currency": assumptions.currency,
        "assumptions": asdict(assumptions),
        "meanings": meanings(),
        "measured": asdict(measured),
        "scenarios": {
            name: {key: None if math.isinf(value) else value for key, value in asdict(money).items()}
            for name, money in scenarios.items()
        },
        "months": months,
        "cumulative": {
            name: [money.saved_per_month * month - money.once for month in months] for name, money in scenarios.items()
        },
        "sensitivity": sensitivity(assumptions, measured),
        "people": people,
        "command": command,
    }


_ROWS = (
    ("saved_per_month", "saved a month, in all"),
    ("traffic_per_month", "of it traffic"),
    ("storage_per_month", "of it storage"),
    ("decode_per_month", "decoding a month (cost)"),
    ("once", "cost, once"),
    ("payback_months", "months until paid back"),
    ("net", "net over the horizon"),
    ("return_on_investment", "return on the cost"),
)


def to_markdown(data: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    scenarios = data["scenarios"]

    def cell(name: str, key: str) -> str:
        value = scenarios[name][key]
        if key == "payback_months":
            return "never" if value is None else f"{value:.1f}"
        if key == "return_on_investment":
            return "-" if value is None else f"{100 * value:,.0f} %"
        return f"{value:,.0f}"

    lines = [
        f"`{data['command']}`",
        "",
        data["verdict"],
        "",
        f"## Money, in {data['currency']}",
        "",
        "| | worst of the interval | measured | best of the interval |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {label} | " + " | ".join(cell(name, key) for name in ("worst", "measured", "best")) + " |"
        for key, label in _ROWS
    ]
    lines += [
        "",
        "## If one number is a quarter lower or higher",
        "",
        "| | net if lower | net if higher |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['name'].replace('_', ' ')} | {row['lower']:,.0f} | {row['higher']:,.0f} |"
        for row in data["sensitivity"]
    ]
    if data["people"]:
        lines += ["", "## What people saw", ""] + [f"- {line}" for line in data["people"]]
    lines += ["", "## Assumptions", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in data["assumptions"].items()]
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax savings`."""
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder that `jnd-jax eval` wrote")
    parser.add_argument("--assumptions", type=Path, metavar="FILE", help="TOML file of prices and amounts")
    parser.add_argument("--people", type=Path, metavar="DIR", help="folder that `jnd-jax abtest analyse` wrote")
    parser.add_argument("--jnd", type=float, default=1.0, metavar="T", help="JNDs allowed, as in the comparison")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for savings.html and savings.md")
    parser.add_argument("--example", action="store_true", help="print an assumptions file to start from")


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax savings`; returns the exit status."""
    if args.example:
        print(EXAMPLE.read_text(encoding="utf-8"), end="")
        return 0
    if args.results is None or args.assumptions is None or args.output is None:
        raise JndError("give --results, --assumptions and -o (or --example)")
    from plotly.offline import get_plotlyjs

    path = args.results / "results.jsonl"
    if not path.exists():
        raise JndError(f"{args.results} holds no results: run `jnd-jax eval` first")
    assumptions = read_assumptions(args.assumptions)
    metrics.lookup(assumptions.metric)
    results = Results(path)
    # "jnd-perceptual" is the newest jnd-perceptual-N that was measured, as everywhere.
    measurable = results.codecs()
    newest = {
        side: zoo.resolve(name, measurable) or name
        for side, name in (("today", assumptions.today), ("new", assumptions.new))
    }
    assumptions = replace(assumptions, **newest)
    measured = measure(results, assumptions, args.jnd)
    people = []
    if args.people is not None:
        analysis = json.loads((args.people / "analysis.json").read_text(encoding="utf-8"))
        people = [
            f"{analysis['subjects']} people took part"
            + (f"; {len(analysis['excluded'])} more do not count, by their answers." if analysis["excluded"] else "."),
            *(abtest.sentence(pair) for pair in analysis["pairs"]),
        ]
    words = ["jnd-jax", "savings", "--results", str(args.results), "--assumptions", str(args.assumptions)]
    words += ["--people", str(args.people)] if args.people is not None else []
    words += ["--jnd", f"{args.jnd:g}"] if args.jnd != 1 else []
    command = shlex.join([*words, "-o", str(args.output)])
    data = report(assumptions, measured, people, command)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "savings.md").write_text(to_markdown(data), encoding="utf-8")
    (args.output / "savings.html").write_text(
        page.fill("savings.html", data, PLOTLY=get_plotlyjs().replace("</script", "<\\/script")),
        encoding="utf-8",
    )
    print(data["verdict"])
    print(f"report: {args.output / 'savings.html'}")
    return 0
