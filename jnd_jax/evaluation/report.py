"""One self-contained page that shows a comparison, and a static picture of its curves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jnd_jax import metrics
from jnd_jax.evaluation import page, verdict
from jnd_jax.evaluation.curves import published
from jnd_jax.evaluation.results import Results, TestImage
from jnd_jax.evaluation.summary import KODAK, CodecRow, Summary, image_bd, image_bits
from jnd_jax.images import read_rgb
from jnd_jax.metrics import levels


def _map(pixels: np.ndarray, file: Path) -> bytes:
    """ColorVideoVDP's map of visible differences between an image and a file that browsers show, as WebP."""
    from jnd_jax.perception.cvvdp import difference_picture

    coded = np.asarray(Image.open(file).convert("RGB"))
    content = io.BytesIO()
    Image.fromarray(difference_picture(pixels, coded)).save(content, "WEBP", quality=80)
    return content.getvalue()


def _viewer(
    results: Results, codecs: Sequence[CodecRow], images: Sequence[TestImage], folder: Path, viewer_bpp: float
) -> list[dict[str, Any]]:
    entries = []
    for image in images:
        pixels = read_rgb(image.path)
        budget = int(viewer_bpp * pixels.shape[0] * pixels.shape[1] / 8)
        views = {}
        for codec in codecs:
            record = results.get("view", codec.name, codec.version, image.digest, budget)
            if record is not None and record["file"] is not None:
                file = folder / record["file"]
                views[codec.name] = {
                    "source": page.data_uri(file.read_bytes(), record["media_type"]),
                    "map": page.data_uri(_map(pixels, file), "image/webp"),
                    "bytes": record["bytes"],
                    "quality": record["quality"],
                }
        if views:
            entries.append(
                {
                    "name": image.name,
                    "width": pixels.shape[1],
                    "height": pixels.shape[0],
                    "original": page.data_uri(page.lossless(pixels), "image/webp"),
                    "views": views,
                }
            )
    return entries


def write(
    summary: Summary,
    results: Results,
    path: Path,
    *,
    viewer: Sequence[TestImage],
    viewer_bpp: float,
    viewer_folder: Path,
) -> None:
    """Writes the report: everything inside one file, no network needed to read it.

    Args:
        summary: tables and curves.
        results: where the points and the viewer's files are looked up.
        path: page to write.
        viewer: images that the side-by-side viewer shows.
        viewer_bpp: bits per pixel of its files.
        viewer_folder: where these files are.
    """
    data = {
        **{field: value for field, value in asdict(summary).items() if field != "metrics"},
        "scales": {name: scale.title for name, scale in levels.SCALES.items()},
        "metrics": [
            {key: getattr(metrics.lookup(name), key) for key in ("name", "title", "unit", "better")}
            for name in summary.metrics
        ],
        "verdict": verdict.sentences(summary),
        "rival": verdict.rival(summary),
        "image_bd": image_bd(results),
        "per_image": image_bits(results),
        "published": [asdict(curve) for curve in published()] if set(summary.images) == KODAK else [],
        "viewer": _viewer(results, summary.codecs, viewer, viewer_folder, viewer_bpp),
    }
    path.write_text(
        page.fill("report.html", data, PLOTLY=page.plotly()),
        encoding="utf-8",
    )


def write_png(summary: Summary, path: Path) -> None:
    """Writes the mean curves of all metrics as one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(summary.metrics), 3)
    rows = -(-len(summary.metrics) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    colours = ("#0072b2", "#d55e00", "#009e73", "#a6457d", "#8a6d00", "#555555", "#7b3fa0")
    for index, name in enumerate(summary.metrics):
        metric = metrics.lookup(name)
        axes = figure.add_subplot(rows, columns, index + 1)
        for number, codec in enumerate(summary.codecs):
            rate, value = zip(*summary.curves[codec.name][name])
            axes.plot(
                rate,
                value,
                marker="os^DP"[number % 5],
                label=codec.title,
                color=colours[number % len(colours)],
                linewidth=2.6 if codec.learned else 1.4,
                markersize=5 if codec.learned else 3,
            )
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(metric.title + (f" in {metric.unit}" if metric.unit else ""))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        if metric.better == "lower":
            axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(summary.codecs)))
    figure.savefig(path, dpi=120)
