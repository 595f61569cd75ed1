"""What a comparison says, in three sentences: the first codec against its best rival."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jnd_jax import metrics
from jnd_jax.evaluation.summary import USED_RANGE, BDRow, RatioRow, Summary


def rival(summary: Summary) -> str | None:
    """The conventional codec that leaves the first codec least to save: by the mean over the metrics, of those that have a
    figure by most of them.

    By bits at t JND, or by BD-rate where no metric has a JND. None where the first codec has no such opponent.
    """
    own = summary.codecs[0].name
    others = [codec.name for codec in summary.codecs[1:] if not codec.learned]
    scores: dict[str, list[float]] = {}
    for row in summary.ratios:
        if row.test == own and row.anchor in others:
            scores.setdefault(row.anchor, []).append(row.means)
    if not scores:
        for row in summary.bd:
            if row.test == own and row.anchor in others and row.percent is not None and row.range == "common":
                scores.setdefault(row.anchor, []).append(1 + row.percent / 100)
    most = max(map(len, scores.values()), default=0)
    complete = {name: sum(values) / most for name, values in scores.items() if len(values) == most}
    return max(complete, key=lambda name: complete[name], default=None)


def caveat(names: Collection[str]) -> str:
    """What a comparison with AVIF by its defaults leaves open; empty where AVIF at its best is among the codecs."""
    if "avif" not in names or "avif10" in names:
        return ""
    return "AVIF stands here by its defaults; at its best (`avif10`) it was not measured."


def _percent(value: float, low: float | None, high: float | None) -> str:
    """Of a difference in percent: "12 % fewer bits (9 to 15 %)", or that none is shown."""
    words = f"{abs(value):.0f} % {'fewer' if value < 0 else 'more'} bits"
    if low is None or high is None:
        return words
    if low < 0 < high:
        return f"{words} ({low:+.0f} to {high:+.0f} %, so no difference is shown)"
    ends = sorted((abs(low), abs(high)))
    return f"{words} ({ends[0]:.0f} to {ends[1]:.0f} %)"


def _of_ratio(row: RatioRow) -> str:
    ends = (None if end is None else 100 * (end - 1) for end in (row.means_low, row.means_high))
    return f"{_percent(100 * (row.means - 1), *ends)} by {metrics.jnd_title(row.metric, row.scale)}"


def _of_bd(row: BDRow) -> str:
    return f"{_percent(row.percent or 0.0, row.low, row.high)} by {metrics.lookup(row.metric).title}"


def _at_jnd(summary: Summary, own: str, other: str, title: dict[str, str]) -> str:
    rows = [row for row in summary.ratios if (row.test, row.anchor) == (own, other)]
    missed = [row for row in summary.jnd if row.codec == own and row.bpp is None]
    t = summary.jnd[0].t
    lacks = "; ".join(
        f"by {metrics.jnd_title(row.metric, row.scale)} its files do not get there on {row.total - row.reached} of {row.total} images"
        for row in missed
    )
    if not rows:
        return f"At {t:g} JND there is nothing to compare{f': {lacks}' if lacks else ''}."
    against = (
        f"At {t:g} JND {title[own]} needs {', '.join(map(_of_ratio, rows))}, against {title[other]}, its best rival"
    )
    return f"{against}; {lacks}." if lacks else f"{against}."


def _over_qualities(summary: Summary, own: str, others: Sequence[str], title: dict[str, str]) -> str | None:
    used = any(row.range == "used" and row.percent is not None for row in summary.bd)
    metric = next((name for name in summary.metrics if name in USED_RANGE), summary.metrics[0])
    found = {
        row.anchor: row
        for row in summary.bd
        if row.test == own and row.metric == metric and row.range == ("used" if used else "common")
    }
    clauses = [
        f"{_of_bd(found[other])} than {title[other]}"
        for other in others
        if other in found and found[other].percent is not None
    ]
    where = "Over the qualities that people use" if used else "At equal quality"
    return f"{where} it needs {', and '.join(clauses)}." if clauses else None


def sentences(summary: Summary) -> list[str]:
    """The verdict: at one JND against the best rival, over all qualities, and in time; what it leaves open.

    Intervals are of 95 %.
    """
    title = {row.name: row.title for row in summary.codecs}
    own, other = summary.codecs[0].name, rival(summary)
    if other is None:
        names = ", ".join(title.values())
        return [f"{names} on {len(summary.images)} images; the curves and tables below say how they compare."]
    lines = [_at_jnd(summary, own, other, title)] if summary.jnd else []
    first = next((codec.name for codec in summary.codecs if not codec.learned and codec.name != other), None)
    lines.append(_over_qualities(summary, own, [other, *([first] if first else [])], title) or "")
    times = {row.codec: row for row in summary.times}
    lines.append(
        f"It takes {times[own].encode:.2g} s a megapixel to encode and {times[own].decode:.2g} s to decode; "
        f"{title[other]} {times[other].encode:.2g} s and {times[other].decode:.2g} s."
    )
    lines.append(caveat(title))
    return [line for line in lines if line]
