"""`jnd-jax savings`: the page on which a change of codec is decided, and the same as Markdown."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jnd_jax import metrics, zoo
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page, savings, statistics, verdict
from jnd_jax.evaluation.abtest import analysis
from jnd_jax.evaluation.results import Results
from jnd_jax.evaluation.savings import Assumptions, Measured, Money

CONDITION_ALONE = "One number at a time, the others as assumed."
LOOKS = {
    "aic": "people who compare two pictures closely (JPEG AIC)",
    "konjnd": "a flicker test (KonJND); people who compare closely see about two there",
}
CONDITION = f"First of all, clients that can show the new format. If all could: {CONDITION_ALONE.lower()}"
SCENARIOS = ("worst", "measured", "best")
ROWS = (
    ("bill_today", "a month, without a change"),
    ("bill_new", "a month, after it"),
    ("saved_per_month", "saved a month, in all"),
    ("traffic_per_month", "of it traffic"),
    ("storage_per_month", "of it storage"),
    ("encode_per_month", "encoding a month (cost)"),
    ("decode_per_month", "decoding a month on own servers (cost)"),
    ("decoder_per_month", "sending the decoder a month (cost)"),
    ("once", "cost, once"),
    ("payback_months", "months until paid back"),
    ("net", "net over the horizon"),
    ("return_on_investment", "return on the cost"),
)


def _amount(value: float, currency: str) -> str:
    return f"{value:,.0f} {currency}"


def _percent(measured: Measured, today: str, look: str) -> str:
    """What a codec's files weigh against today's, in a sentence."""
    change = 100 * (1 - measured.ratio)
    if measured.low is None or measured.high is None:
        word = "fewer" if change > 0 else "MORE"
        note = f"{look}; {statistics.TOO_FEW}"
        return f"{measured.name} needs {abs(change):.0f} % {word} bytes than {today} at equal look ({note})."
    ends = sorted((100 * abs(1 - measured.high), 100 * abs(1 - measured.low)))
    interval = f"{ends[0]:.0f} to {ends[1]:.0f} %; {look}"
    if measured.high < 1:
        return f"{measured.name} needs {change:.0f} % fewer bytes than {today} at equal look ({interval})."
    if measured.low > 1:
        return f"{measured.name} needs {-change:.0f} % MORE bytes than {today} at equal look ({interval})."
    return (
        f"At equal look no difference in bytes between {measured.name} and {today} is shown "
        f"({100 * (measured.low - 1):+.0f} to {100 * (measured.high - 1):+.0f} %; {look})."
    )


def bits(assumptions: Assumptions, measured: Measured, than: str) -> str:
    """What a codec's files save against another's, in a sentence."""
    title = metrics.jnd_title(assumptions.metric, assumptions.scale)
    return _percent(measured, than, f"{title}, {measured.images} images")


def money(assumptions: Assumptions, measured: Measured, scenarios: Mapping[str, Money]) -> str:
    """What that is worth, in a sentence or two; whether it pays is judged over the whole measured interval."""
    a = assumptions
    horizon = f"{a.horizon_months:g} months"
    expected = scenarios["measured"]
    low, middle, high = (_amount(scenarios[name].net, a.currency) for name in SCENARIOS)
    if a.share_clients_new == 0:
        return (
            f"The change does NOT pay: no client can show {measured.name} yet (`share_clients_new`), so it costs "
            f"{_amount(-expected.net, a.currency)} in {horizon} and saves no traffic."
        )
    if measured.low is None:
        words = "is worth" if expected.net > 0 else "does NOT pay: it comes to"
        return f"By the measured ratio alone the change {words} {middle} in {horizon}; no interval bounds it."
    if scenarios["worst"].net > 0:
        paid = "at once" if not expected.payback_months else f"after {expected.payback_months:.1f} months"
        return (
            f"The change pays back {paid} and is worth {middle} in {horizon}, at least {low} and at most {high} within the "
            "measured interval."
        )
    if scenarios["best"].net <= 0:
        return (
            f"The change does NOT pay within {horizon}: it loses {_amount(-expected.net, a.currency)}, "
            f"{_amount(-scenarios['best'].net, a.currency)} even at the best end of the measured interval."
        )
    return (
        f"Whether the change pays is NOT settled: over {horizon} the measured interval spans {low} to {high}. More test "
        "images narrow it."
    )


def look(assumptions: Assumptions, t: float) -> str:
    """What "equal look" means, in two sentences."""
    return (
        f"Equal look: the bytes at which each picture is {t:g} just-noticeable difference{'' if t == 1 else 's'} (JND) from its "
        f"original on the scale of {LOOKS[assumptions.scale]}, as the measure in brackets judges it. The range is a 95 % "
        "interval over images."
    )


def beside(assumptions: Assumptions, measured: Measured, scenarios: Mapping[str, Money], other: Measured | None) -> str:
    """How the best alternative compares, in sentences."""
    if other is None:
        return "No other codec was measured: compare with the best one can have, such as avif10, before deciding."
    a, own = assumptions, scenarios["measured"]
    worth = savings.calculate(savings.as_alternative(a), other)
    change, own_change = 100 * (1 - other.ratio), 100 * (1 - measured.ratio)
    clients = f"{100 * a.share_clients_alternative:.0f} % of deliveries can show it"
    line = (
        f"{other.name} saves {change:.0f} % of the bytes of {a.today} today ({measured.name}: {own_change:.0f} %), at no "
        f"training cost; {clients}. Over {a.horizon_months:g} months it {'is worth' if worth.net > 0 else 'loses'} {_amount(abs(worth.net), a.currency)}"
    )
    if scenarios["worst"].net < worth.net < scenarios["best"].net:
        return f"{line}, which the measured interval does not tell from {measured.name}."
    if worth.net > own.net:
        more = _amount(worth.net - own.net, a.currency)
        if worth.net > 0:
            return f"{line}, {more} MORE than {measured.name}: change to {other.name}."
        return f"{line}, {more} less than {measured.name} loses: neither pays."
    return f"{line}; {measured.name} is {_amount(own.net - worth.net, a.currency)} better."


def _name(text: str) -> str:
    return text.replace("_", " ")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def conditions(rows: Sequence[Mapping[str, Any]], pays: bool) -> list[str]:
    """What would have to be true for the change to pay (or to stop paying), a sentence for each number."""
    lines = []
    for row in rows:
        what, now = _name(row["name"]), _figure(row["now"])
        if row["needed"] is None:
            lines.append(f"{what}: {now} now; no value in reach {'makes a loss' if pays else 'is enough'} by itself")
        else:
            lines.append(f"{what}: {now} now; breaks even at {_figure(row['needed'])}")
    return lines


def report(
    assumptions: Assumptions,
    measured: Measured,
    other: Measured | None,
    people: list[str],
    command: str,
    against: Measured | None = None,
    caveat: str = "",
) -> dict[str, Any]:
    """Everything that the page and the Markdown file show, as plain data.

    Args:
        assumptions: as read.
        measured: of the new codec.
        other: of the best alternative, None where no other codec was measured.
        people: results of a subject test in sentences, if there was one.
        command: that makes the page.
        against: the new codec measured against the alternative, image by image.
        caveat: what the alternatives leave open, a sentence.
    """
    a = assumptions
    ratios = (measured.high or measured.ratio, measured.ratio, measured.low or measured.ratio)
    scenarios = {name: savings.calculate(a, measured, ratio) for name, ratio in zip(SCENARIOS, ratios)}
    expected, alternative = scenarios["measured"], savings.as_alternative(a)
    of_other = None if other is None else savings.calculate(alternative, other)
    texts = {
        "bits": bits(a, measured, a.today),
        "money": money(a, measured, scenarios),
        "beside": beside(a, measured, scenarios, other),
    }
    if other is not None and against is not None:
        texts["beside"] += f" Side by side: {bits(a, against, other.name)}"
    if caveat:
        texts["beside"] += f" {caveat}"
    # A line that cannot rise says nothing: without clients it is drawn for all of them.
    shown_share = a.share_clients_new or 1.0
    shown = replace(a, share_clients_new=shown_share)
    needed = [
        row for row in savings.break_even(shown, measured) if a.share_clients_new or row["name"] != "share_clients_new"
    ]
    return {
        **texts,
        "verdict": " ".join(texts.values()),
        "look": look(a, measured.t),
        "currency": a.currency,
        "assumptions": {name: value if value != [] else None for name, value in asdict(a).items()},
        "meanings": savings.meanings(),
        "measured": asdict(measured),
        "other": None if other is None else asdict(other),
        "scenarios": {name: asdict(found) for name, found in scenarios.items()},
        "alternative": None if of_other is None else asdict(of_other),
        "months": list(range(len(expected.cumulative))),
        "sensitivity": savings.sensitivity(a, measured),
        "condition": CONDITION if not a.share_clients_new else CONDITION_ALONE,
        "conditions": conditions(needed, savings.calculate(shown, measured).net > 0),
        "deliveries": savings.by_deliveries(a, measured, shown_share),
        "deliveries_share": shown_share,
        "deliveries_other": None if other is None else savings.by_deliveries(alternative, other),
        "client": {
            "seconds": measured.decode_s * a.average_megapixels,
            "encodes": a.encodes_per_file,
        },
        "people": people,
        "command": command,
    }


def _cell(found: Mapping[str, Any], key: str) -> str:
    value = found[key]
    if key == "payback_months":
        return "never" if value is None else f"{value:.1f}"
    if key == "return_on_investment":
        return "-" if value is None else f"{100 * value:,.0f} %"
    return f"{value:,.0f}"


def to_markdown(data: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    other = data["other"]["name"] if data["other"] else None
    worst, middle, best = (data["scenarios"][name] for name in SCENARIOS)
    columns = [middle, *([data["alternative"]] if other else []), worst, best]
    head = [data["measured"]["name"], *([other] if other else []), "worst of the interval", "best of the interval"]
    lines = [f"`{data['command']}`", "", data["bits"], "", data["money"], "", data["beside"], "", data["look"], ""]
    lines += [f"## Money, in {data['currency']}", "", f"| | {' | '.join(head)} |", "|---|" + "---|" * len(head)]
    lines += [f"| {label} | " + " | ".join(_cell(column, key) for column in columns) + " |" for key, label in ROWS]
    lines += ["", "The amounts a month are those of the last month.", "", "## What would have to be true", ""]
    lines += [data["condition"], ""]
    lines += [f"- {line}" for line in data["conditions"]]
    lines += [
        "",
        "## If one number is a quarter lower or higher",
        "",
        "| | net if lower | net if higher |",
        "|---|---|---|",
    ]
    lines += [f"| {_name(row['name'])} | {row['lower']:,.0f} | {row['higher']:,.0f} |" for row in data["sensitivity"]]
    if data["people"]:
        lines += ["", "## What people saw", "", *(f"- {line}" for line in data["people"])]
    lines += ["", "## Assumptions", ""]
    lines += [f"- {_name(name)}: {value}" for name, value in data["assumptions"].items()]
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax savings`."""
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder that `jnd-jax eval` wrote")
    parser.add_argument("--assumptions", type=Path, metavar="FILE", help="TOML file of prices and amounts")
    parser.add_argument("--people", type=Path, metavar="DIR", help="folder that `jnd-jax abtest analyse` wrote")
    parser.add_argument("--jnd", type=float, default=1.0, metavar="T", help="JNDs allowed, as in the comparison")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for savings.html and savings.md")
    parser.add_argument("--example", action="store_true", help="print an assumptions file to start from")


def _people(folder: Path) -> list[str]:
    """What a subject test says, in sentences."""
    try:
        found = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
        more = f"; {len(found['excluded'])} more do not count, by their answers." if found["excluded"] else "."
        sentences = [analysis.sentence(pair) for pair in found["pairs"]]
        return [f"{found['subjects']} people took part{more}", *sentences, *found["notes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JndError(f"{folder} holds no analysis.json of `jnd-jax abtest analyse`: run that first.") from error


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax savings`; returns the exit status."""
    if args.example:
        print(savings.EXAMPLE.read_text(encoding="utf-8"), end="")
        return 0
    if args.results is None or args.assumptions is None or args.output is None:
        raise JndError("Give --results, --assumptions and -o (or --example).")

    path = args.results / "results.jsonl"
    if not path.exists():
        raise JndError(f"{args.results} holds no results: run `jnd-jax eval` first.")
    assumptions = savings.read_assumptions(args.assumptions)
    metrics.lookup(assumptions.metric)
    results = Results(path)
    # "jnd-perceptual" is the newest jnd-perceptual-N that was measured, as everywhere.
    names = {
        side: zoo.resolve(name, results.codecs()) or name
        for side, name in (("today", assumptions.today), ("new", assumptions.new))
    }
    assumptions = replace(assumptions, **names)
    look_at = (assumptions.metric, assumptions.scale, args.jnd)
    measured = savings.measure(results, assumptions.new, assumptions.today, *look_at)
    other = savings.best_alternative(results, assumptions, args.jnd)
    against = None if other is None else savings.measure(results, assumptions.new, other.name, *look_at)
    words = ["jnd-jax", "savings", "--results", str(args.results), "--assumptions", str(args.assumptions)]
    words += ["--people", str(args.people)] if args.people is not None else []
    words += ["--jnd", f"{args.jnd:g}"] if args.jnd != 1 else []
    command = shlex.join([*words, "-o", str(args.output)])
    people = _people(args.people) if args.people is not None else []
    caveat = verdict.caveat(results.codecs())
    data = report(assumptions, measured, other, people, command, against, caveat)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "savings.md").write_text(to_markdown(data), encoding="utf-8")
    (args.output / "savings.html").write_text(
        page.fill("savings.html", data, PLOTLY=page.plotly()),
        encoding="utf-8",
    )
    print("\n".join(data[key] for key in ("bits", "money", "beside")))
    print(f"report: {args.output / 'savings.html'}")
    return 0
