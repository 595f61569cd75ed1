"""What changing the codec is worth: measured bytes at equal look, a page of assumptions, and arithmetic.

The saving in bits is the measured one at equal look (bits at t JND, mean over the test images); no figure goes beyond
its 95 % interval. The best other codec that was measured always stands beside, since it needs no training.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.evaluation import statistics
from jnd_jax.evaluation.results import Results
from jnd_jax.evaluation.summary import bits_at
from jnd_jax.metrics import levels

EXAMPLE = Path(__file__).parent / "templates" / "assumptions.toml"
SENSITIVITY = 0.25
LONGEST = 120
LARGEST = 1e15  # of any number in the assumptions: beyond it, products of them overflow
BEST = "best"
Tiers = list[tuple[float, float]]


@dataclass(frozen=True)
class Assumptions:
    """One field a line of the assumptions file; see templates/assumptions.toml for their meaning and units."""

    currency: str
    today: str
    new: str
    alternative: str
    metric: str
    scale: str
    images_stored: float
    new_images_per_month: float
    renditions: float
    images_served_per_month: float
    average_kilobytes: float
    average_megapixels: float
    keep_today_files: bool
    share_clients_new: float
    share_clients_alternative: float
    decoder_kilobytes: float
    new_visitors_per_month: float
    decode_on_servers_share: float
    traffic_price_per_gb: float | Tiers
    storage_price_per_gb_month: float
    cpu_price_per_hour: float
    encodes_per_file: float
    training_cost: float
    migration_cost: float
    migration_cost_alternative: float
    running_cost_per_month: float
    running_cost_per_month_alternative: float
    ramp_up_months: float
    discount_rate: float
    horizon_months: float


@dataclass(frozen=True)
class Measured:
    """What the comparison measured of a codec against today's, at equal look.

    Attributes:
        name: of the codec.
        ratio: its bytes for one byte of today's, over all test images.
        low: lower end of the 95 % interval (the best case), None with too few images for one.
        high: upper end (the worst case), likewise.
        images: number of test images.
        t: just-noticeable differences allowed, on the scale of the assumptions.
        encode_s: seconds a megapixel to encode once.
        decode_s: seconds a megapixel to decode.
    """

    name: str
    ratio: float
    low: float | None
    high: float | None
    images: int
    t: float
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class Money:
    """One scenario. The amounts a month are those of the last month of the horizon.

    Attributes:
        bill_today: traffic and storage as they would be without a change.
        bill_new: traffic, storage, encoding, decoding and upkeep after it.
        saved_per_month: the difference.
        traffic_per_month: saved.
        storage_per_month: saved (negative: it grows, today's files being kept).
        encode_per_month: cost of new uploads.
        decode_per_month: cost, on own servers.
        decoder_per_month: cost of sending the decoder to browsers.
        once: training, migration and encoding of all stored pictures.
        payback_months: None if it never pays back within the horizon.
        net: over the horizon, discounted.
        return_on_investment: net / once, None without any cost.
        cumulative: by month from 0, discounted, the cost at the start in it.
    """

    bill_today: float
    bill_new: float
    saved_per_month: float
    traffic_per_month: float
    storage_per_month: float
    encode_per_month: float
    decode_per_month: float
    decoder_per_month: float
    once: float
    payback_months: float | None
    net: float
    return_on_investment: float | None
    cumulative: list[float]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _tiers(value: Any, where: str) -> float | Tiers:
    """A price, or tiers of (up to so many GB a month, price)."""
    if _number(value):
        return value
    complaint = JndError(f"{where} must be a price, or tiers such as [[10000, 0.08], [inf, 0.02]] with rising limits.")
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and len(row) == 2 for row in value):
        raise complaint
    limits, prices = [row[0] for row in value], [row[1] for row in value]
    rising = all(_number(limit) for limit in limits[:-1]) and limits[-1] == math.inf and limits == sorted(set(limits))
    if not rising or not all(_number(price) for price in prices):
        raise complaint
    return [(float(limit), float(price)) for limit, price in value]


def read_assumptions(path: Path) -> Assumptions:
    """Reads and checks an assumptions file.

    Raises:
        JndError: not TOML, a line too few or too many, or a value of the wrong kind or range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JndError(f"{path} cannot be read as TOML ({error}): start from `jnd-jax savings --example`.") from error
    kinds = {field.name: str(field.type) for field in fields(Assumptions)}
    lines = lambda names: " and ".join(f"`{name}`" for name in sorted(names))
    missing, unknown = lines(kinds.keys() - values.keys()), lines(values.keys() - kinds.keys())
    if missing or unknown:
        advice = [f"add the line {missing}"] * bool(missing) + [f"take out the line {unknown}"] * bool(unknown)
        raise JndError(f"Correct {path}: {', '.join(advice)}.")
    for name, value in values.items():
        where = f"`{name}` in {path}"
        if kinds[name].startswith("float | "):
            values[name] = _tiers(value, where)
        elif kinds[name] == "float":
            if not _number(value):
                raise JndError(f"{where} must be a number from 0 to {LARGEST:g}.")
            if ("share" in name or name == "discount_rate") and value > 1:
                raise JndError(f"{where} is a share: give 0 to 1.")
        elif not isinstance(value, {"str": str, "bool": bool}[kinds[name]]):
            raise JndError(f"{where} must be {kinds[name]}.")
    if not values["average_kilobytes"]:
        raise JndError(f"`average_kilobytes` in {path} must be above 0.")
    if values["today"] == values["new"]:
        raise JndError(f"`today` and `new` in {path} name one codec: name two.")
    if values["scale"] not in levels.SCALES:
        raise JndError(f"`scale` in {path} must be one of {', '.join(levels.SCALES)}.")
    if not 1 <= values["horizon_months"] <= LONGEST or values["horizon_months"] % 1:
        raise JndError(f"`horizon_months` in {path} must be a whole number from 1 to {LONGEST}.")
    return Assumptions(**values)


def _bits(results: Results, name: str, metric: str, scale: str, t: float) -> dict[str, float]:
    """Bits per pixel of a codec at the look by the images' digests; JndError unless all images have such a figure."""
    points = [point for point in results.latest("point", name) if metric in point["metrics"]]
    if not points:
        raise JndError(f"The results hold no {metric} of {name}: run `jnd-jax eval` with both.")
    level = levels.level(scale, t, metric)[1]
    by_image = results.by_image(name, points[-1]["version"])
    bits = {digest: bits_at(of_image, metric, level) for digest, of_image in by_image.items()}
    missed = sum(not math.isfinite(bpp) for bpp in bits.values())
    if missed:
        raise JndError(
            f"The files of {name} do not reach {t:g} JND of the scale {scale} by {metric} on {missed} of {len(bits)} images: no saving at equal "
            "look can be stated."
        )
    return bits


def measure(results: Results, name: str, today: str, metric: str, scale: str = levels.AIC, t: float = 1.0) -> Measured:
    """How a codec compares with today's at equal look, image by image.

    Args:
        results: of a comparison.
        name: of the codec.
        today: the codec to compare with.
        metric: which measure says what looks the same.
        scale: of JNDs, a name in `levels.SCALES`.
        t: JNDs at which both codecs stand.

    Raises:
        JndError: a codec was not measured, or does not reach the look on every image.
    """
    of_today, own = (_bits(results, codec, metric, scale, t) for codec in (today, name))
    common = sorted(of_today.keys() & own.keys())
    if not common:
        raise JndError("The two codecs were measured on different images: run `jnd-jax eval` with both.")
    before, after = (np.array([table[digest] for digest in common]) for table in (of_today, own))
    ratio = statistics.ratio_of_means(after, before)
    points = results.latest("point", name)
    encode, decode = statistics.seconds_a_megapixel(points)
    return Measured(
        name=name,
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        images=len(common),
        t=t,
        encode_s=encode,
        decode_s=decode,
    )


def best_alternative(results: Results, assumptions: Assumptions, t: float = 1.0) -> Measured | None:
    """The named alternative, or of all other conventional codecs the one with the fewest bytes; None without any."""
    a = assumptions
    if a.alternative != BEST:
        return measure(results, a.alternative, a.today, a.metric, a.scale, t)
    found = []
    for name in sorted(results.codecs() - {a.today, a.new}):
        if any(record["learned"] for record in results.latest("codec", name)):
            continue
        try:
            found.append(measure(results, name, a.today, a.metric, a.scale, t))
        except JndError:
            continue
    return min(found, key=lambda measured: measured.ratio, default=None)


def as_alternative(assumptions: Assumptions) -> Assumptions:
    """The assumptions as they are for the alternative: no training, its clients, its cost of change and upkeep."""
    return replace(
        assumptions,
        share_clients_new=assumptions.share_clients_alternative,
        training_cost=0.0,
        migration_cost=assumptions.migration_cost_alternative,
        running_cost_per_month=assumptions.running_cost_per_month_alternative,
        decoder_kilobytes=0.0,
        decode_on_servers_share=0.0,
    )


def traffic_cost(gigabytes: float, price: float | Tiers) -> float:
    """Of so many GB in a month."""
    if not isinstance(price, list):
        return gigabytes * price
    cost, below = 0.0, 0.0
    for limit, tier in price:
        cost += max(0.0, min(gigabytes, limit) - below) * tier
        below = limit
    return cost


def _month(a: Assumptions, measured: Measured, ratio: float, month: int) -> dict[str, float]:
    """The flows of one month: bills today and after, and what the difference is made of."""
    ramp = min(1.0, month / a.ramp_up_months) if a.ramp_up_months else 1.0
    gigabyte = a.average_kilobytes / 1e6
    delivered = a.images_served_per_month * a.share_clients_new * ramp
    today = a.images_served_per_month * gigabyte
    before = traffic_cost(today, a.traffic_price_per_gb)
    after = traffic_cost(today - delivered * gigabyte * (1 - ratio), a.traffic_price_per_gb)
    decoder = a.new_visitors_per_month * a.decoder_kilobytes / 1e6
    with_decoder = traffic_cost(today - delivered * gigabyte * (1 - ratio) + decoder, a.traffic_price_per_gb)
    files = (a.images_stored + a.new_images_per_month * month) * a.renditions
    stored = files * gigabyte * a.storage_price_per_gb_month
    cpu = a.average_megapixels * a.cpu_price_per_hour / 3600
    return {
        "bill_today": before + stored,
        "traffic": before - after,
        "storage": stored * ramp * ((0.0 if a.keep_today_files else 1.0) - ratio),
        "encode": a.new_images_per_month * a.renditions * a.encodes_per_file * measured.encode_s * cpu,
        "decode": delivered * a.decode_on_servers_share * measured.decode_s * cpu,
        "decoder": with_decoder - after,
        "upkeep": a.running_cost_per_month,
    }


def _payback(cumulative: Sequence[float]) -> float | None:
    """Month at which the sum turns from below zero, between two months by a straight line."""
    if cumulative[0] >= 0:
        return 0.0 if cumulative[-1] >= 0 else None
    for month in range(1, len(cumulative)):
        if cumulative[month] >= 0:
            step = cumulative[month] - cumulative[month - 1]
            return month - cumulative[month] / step
    return None


def calculate(assumptions: Assumptions, measured: Measured, ratio: float | None = None) -> Money:
    """The money of one scenario.

    Args:
        assumptions: prices and amounts.
        measured: the codec's speed and ratio.
        ratio: bytes of the new codec for one of today's; None takes the measured one.
    """
    a, ratio = assumptions, measured.ratio if ratio is None else ratio
    cpu = a.average_megapixels * a.cpu_price_per_hour / 3600
    stored = a.images_stored * a.renditions * a.encodes_per_file * measured.encode_s * cpu
    once = a.training_cost + a.migration_cost + stored
    cumulative, flows, saved = [-once], {}, 0.0
    for month in range(1, int(a.horizon_months) + 1):
        flows = _month(a, measured, ratio, month)
        costs = flows["encode"] + flows["decode"] + flows["decoder"] + flows["upkeep"]
        saved = flows["traffic"] + flows["storage"] - costs
        cumulative.append(cumulative[-1] + saved / (1 + a.discount_rate) ** (month / 12))
    net = cumulative[-1]
    return Money(
        bill_today=flows["bill_today"],
        bill_new=flows["bill_today"] - saved,
        saved_per_month=saved,
        traffic_per_month=flows["traffic"],
        storage_per_month=flows["storage"],
        encode_per_month=flows["encode"],
        decode_per_month=flows["decode"],
        decoder_per_month=flows["decoder"],
        once=once,
        payback_months=_payback(cumulative),
        net=net,
        return_on_investment=net / once if once > 0 else None,
        cumulative=cumulative,
    )


def _scaled(assumptions: Assumptions, name: str, factor: float) -> Assumptions:
    """With one number times `factor`; shares stay within 1, tiers keep their limits, months stay whole."""
    value = getattr(assumptions, name)
    if isinstance(value, list):
        return replace(assumptions, **{name: [(limit, price * factor) for limit, price in value]})
    value *= factor
    if "share" in name:
        value = min(value, 1.0)
    if name == "horizon_months":
        value = min(LONGEST, max(1, round(value)))
    return replace(assumptions, **{name: value})


NUMBERS = [field.name for field in fields(Assumptions) if str(field.type).startswith("float")]


def sensitivity(assumptions: Assumptions, measured: Measured) -> list[dict[str, Any]]:
    """Net result when one number is a quarter lower or higher, the most influential first."""
    factors = (1 - SENSITIVITY, 1 + SENSITIVITY)
    rows = []
    nets = [calculate(assumptions, measured, measured.ratio * factor).net for factor in factors]
    rows.append({"name": "measured ratio of bytes", "lower": nets[0], "higher": nets[1]})
    for name in NUMBERS:
        nets = [calculate(_scaled(assumptions, name, factor), measured).net for factor in factors]
        if nets[0] != nets[1]:
            rows.append({"name": name, "lower": nets[0], "higher": nets[1]})
    return sorted(rows, key=lambda row: -abs(row["higher"] - row["lower"]))


def _crossing(net: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a monotonous net result crosses zero between two values, by bisection; None where it does not."""
    positive = net(low) > 0
    if positive == (net(high) > 0):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (net(middle) > 0) == positive else (low, middle)
    return high


def break_even(assumptions: Assumptions, measured: Measured) -> list[dict[str, Any]]:
    """What would have to be true for a net result of zero, one number at a time.

    Rows: name, now, and needed: None where no value in reach does it. In reach are shares up to 1, a thousand times the
    deliveries, ten times the price, no cost at all, and a ratio of bytes down to a tenth of the measured one.
    """
    a = assumptions
    reach = {
        "share_clients_new": (0.0, 1.0),
        "images_served_per_month": (0.0, 1000 * max(1.0, a.images_served_per_month)),
        "migration_cost": (0.0, max(1.0, a.migration_cost) * 1000),
    }
    rows = [
        {
            "name": name,
            "now": getattr(a, name),
            "needed": _crossing(lambda value, name=name: calculate(replace(a, **{name: value}), measured).net, *ends),
        }
        for name, ends in reach.items()
    ]
    price = _crossing(lambda factor: calculate(_scaled(a, "traffic_price_per_gb", factor), measured).net, 0.0, 10.0)
    rows.append({"name": "traffic price, times today's", "now": 1.0, "needed": price})
    ratio = _crossing(lambda value: calculate(a, measured, value).net, 0.1 * measured.ratio, 2.0)
    rows.append({"name": "measured ratio of bytes", "now": measured.ratio, "needed": ratio})
    return rows


def by_deliveries(assumptions: Assumptions, measured: Measured, share: float | None = None) -> dict[str, list[float]]:
    """Net result over deliveries a month, from a twentieth to five times the assumed ones: the break-even line."""
    a = assumptions if share is None else replace(assumptions, share_clients_new=share)
    counts = (max(1.0, a.images_served_per_month) * np.geomspace(0.05, 5, 41)).tolist()
    nets = [calculate(replace(a, images_served_per_month=count), measured).net for count in counts]
    return {"deliveries": counts, "net": nets}


def meanings() -> dict[str, str]:
    """What each line of an assumptions file means, where the example's comments say so."""
    return dict(re.findall(r"^(\w+) = .*?  # (.+)$", EXAMPLE.read_text(encoding="utf-8"), re.M))
