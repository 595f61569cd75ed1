from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import signal

import numpy as np
import pytest

import jnd_jax
from jnd_jax import codecs, metrics
from jnd_jax.errors import JndError
from jnd_jax.evaluation import measure, run, summary, tables
from jnd_jax.evaluation.results import Results, find_images
from jnd_jax.images import read_rgb

from .conftest import call

pytest.importorskip("imagecodecs")
METRICS = "psnr,ms-ssim,psnr-hvs,ssimulacra2"


@pytest.fixture(scope="module")
def comparison(photos, tmp_path_factory):
    """One finished run of a stub model against two codecs; (its folder, the stub)."""
    pytest.importorskip("plotly")
    from .conftest import StubModel

    model = StubModel()
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnd_jax, "load", lambda name: model, raising=False)
        assert evaluate(photos, folder) == 0
    return folder, model


def evaluate(photos, folder, *more: object) -> int:
    return call(
        run.add_arguments,
        run.run,
        "stub",
        "--data",
        photos,
        "--against",
        "jpeg,jxl",
        "-o",
        folder,
        "--metrics",
        METRICS,
        "--qualities",
        "0,20,40,60,80,100",
        "--viewer-images",
        1,
        "--viewer-bpp",
        1,
        *more,
    )


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_points_hold_real_bytes_and_metrics_of_the_decoded_file(comparison, photos):
    folder, _ = comparison
    point = next(r for r in records(folder) if r["kind"] == "point" and r["codec"] == "jpeg" and r["quality"] == 50)
    image = read_rgb(photos / f"{point['image']}.png")
    data = codecs.encode("jpeg", image, 50)
    assert point["bytes"] == len(data)
    assert point["bpp"] == len(data) * 8 / (image.shape[0] * image.shape[1])
    decoded = codecs.decode("jpeg", data)
    assert set(point["metrics"]) == set(METRICS.split(","))
    assert point["metrics"]["ssimulacra2"] == pytest.approx(metrics.measure("ssimulacra2", image, decoded))


def test_second_run_repeats_nothing(comparison, photos, monkeypatch):
    folder, model = comparison
    monkeypatch.setattr(jnd_jax, "load", lambda name: model, raising=False)
    before, encodes = (folder / "results.jsonl").read_bytes(), model.encodes
    assert evaluate(photos, folder) == 0
    assert (folder / "results.jsonl").read_bytes() == before and model.encodes == encodes


def test_killed_run_goes_on_where_it_stopped(comparison, photos, tmp_path, monkeypatch, stub):
    folder, _ = comparison
    monkeypatch.setattr(jnd_jax, "load", lambda name: stub, raising=False)
    lines = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    kept = 40
    (tmp_path / "results.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:25])
    assert evaluate(photos, tmp_path) == 0

    def keys(rows: list[dict]) -> list[tuple]:
        return sorted((r["kind"], r["codec"], r["image"], str(r.get("quality"))) for r in rows if r["kind"] == "point")

    assert keys(records(tmp_path)) == keys(records(folder))
    assert records(tmp_path)[:kept] == records(folder)[:kept]


def test_a_changed_model_is_measured_anew(comparison, photos, tmp_path):
    folder, model = comparison
    results = Results(folder / "results.jsonl")
    codec = codecs.of_model(model, (20.0,))
    digest = find_images(photos)[0].digest
    assert results.get("point", "stub", codec.version, digest, 20.0) is not None
    assert results.get("point", "stub", "f" * 16, digest, 20.0) is None


def test_what_the_last_run_compared_is_the_latest(tmp_path):
    results = Results(tmp_path / "r.jsonl")
    for version in "ab":
        results.append(
            {"kind": "point", "codec": "own", "version": version, "digest": "d", "quality": 1, "metrics": {}}
        )
    assert [point["version"] for point in results.latest("point", "own")] == ["b"]
    results.append({"kind": "run", "codecs": [["own", "a"]]})
    assert [point["version"] for point in results.latest("point", "own")] == ["a"]


def test_tables_say_how_many_images_were_measured_at_once(photos, tmp_path, stub, monkeypatch):
    monkeypatch.setattr(jnd_jax, "load", lambda name: stub, raising=False)
    command = ["stub", "--data", photos, "--against", "", "-o", tmp_path, "--metrics", "psnr", "--viewer-images", 0]
    for workers, qualities in ((2, "0,20"), (1, "0,20,40")):
        assert call(run.add_arguments, run.run, *command, "--qualities", qualities, "--workers", workers) == 0
    assert "1 or 2 images at once" in (tmp_path / "tables.md").read_text()


def test_added_metrics_are_merged_into_known_points(photos, tmp_path, stub):
    images, codec = find_images(photos, 1), codecs.of_model(stub, (50.0,))
    results = Results(tmp_path / "r.jsonl")
    measure.evaluate([codec], images, ["psnr"], results)
    measure.evaluate([codec], images, ["psnr", "psnr-y"], results)
    again = Results(tmp_path / "r.jsonl")
    point = again.get("point", "stub", codec.version, images[0].digest, 50.0)
    assert set(point["metrics"]) == {"psnr", "psnr-y"}
    lines = [set(json.loads(line)["metrics"]) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert lines == [{"psnr"}, {"psnr-y"}]


def test_bits_at_jnd_lie_between_the_files_around_the_level(comparison, photos):
    """Of all qualities of JPEG, the last that misses SSIMULACRA2 64 and the first that passes enclose the figure."""
    folder, _ = comparison
    rows = summary.image_bits(Results(folder / "results.jsonl"))
    found = {(r["codec"], r["metric"], r["scale"], r["image"]): r["bpp"] for r in rows}
    assert {(metric, scale) for _, metric, scale, _ in found} == {
        ("ms-ssim", "konjnd"),
        ("psnr-hvs", "konjnd"),
        ("ssimulacra2", "konjnd"),
        ("ssimulacra2", "aic"),
    }
    for image in find_images(photos):
        pixels, sizes = read_rgb(image.path), []
        for quality in range(1, 96):
            sizes.append(codecs.encode("jpeg", pixels, quality))
            if metrics.measure("ssimulacra2", pixels, codecs.decode("jpeg", sizes[-1])) >= 64:
                break
        else:
            assert found["jpeg", "ssimulacra2", "konjnd", image.name] is None
            continue
        failing, passing = (8 * len(data) / pixels[..., 0].size for data in sizes[-2:])
        bits = found["jpeg", "ssimulacra2", "konjnd", image.name]
        assert 0.98 * failing <= bits <= 1.02 * passing
        strict = found["jpeg", "ssimulacra2", "aic", image.name]
        assert strict is None or strict > bits


def test_one_image_out_of_reach_makes_the_cell_not_reached(photos, tmp_path, stub):
    images = find_images(photos)
    codec = codecs.of_model(stub, (0.0, 30.0, 60.0, 100.0))
    results = Results(tmp_path / "r.jsonl")
    measure.evaluate([codec], images, ["psnr-hvs"], results)
    summary.record(results, [codec], images, ["psnr-hvs"])
    row = summary.summarise(results).jnd[0]
    assert row.reached == 3 and tables.jnd_cell(row) == f"{row.bpp:.3f}"
    for quality in codec.grid:
        point = results.get("point", "stub", codec.version, images[1].digest, quality)
        results.append({**point, "metrics": {"psnr-hvs": 20 + quality / 10}})
    row = summary.summarise(results).jnd[0]
    assert (row.scale, row.reached, row.total, row.bpp) == ("konjnd", 2, 3, None)
    assert tables.jnd_cell(row) == "not reached (2 of 3 images)"


def test_bd_rate_of_the_tables_is_that_of_the_mean_curves(comparison):
    folder, _ = comparison
    rows = list(csv.DictReader((folder / "bd_rate.csv").open()))
    pairs = {(row["test"], row["anchor"]) for row in rows}
    assert pairs == {("stub", "jpeg"), ("stub", "jxl"), ("jxl", "jpeg")}
    from jnd_jax.evaluation.bd import bd_rate

    curves = list(csv.DictReader((folder / "curves.csv").open()))
    columns = [
        [float(r[field]) for r in curves if r["codec"] == codec and r["metric"] == "psnr"]
        for codec in ("jpeg", "jxl")
        for field in ("bpp", "value")
    ]
    row = next(r for r in rows if (r["test"], r["anchor"], r["metric"]) == ("jxl", "jpeg", "psnr"))
    assert float(row["percent"]) == pytest.approx(bd_rate(*columns).percent)


def test_tables_name_their_command_and_every_file_is_there(comparison):
    folder, _ = comparison
    text = (folder / "tables.md").read_text()
    assert text.startswith("`jnd-jax eval stub --data") and "--qualities 0,20,40,60,80,100" in text
    assert "## BD-rate" in text and "at 1 JND" in text
    assert re.search(r"\| stub \| [.\d]+ \| [.\d]+ \| 12\.3 \| 5\.7 \|", text)
    for name in ("curves.csv", "jnd.csv", "times.csv", "report.html", "rate-distortion.png"):
        assert (folder / name).stat().st_size > 100


def test_bits_of_single_images_have_the_mean_that_the_tables_show(comparison):
    folder, _ = comparison
    rows = list(csv.DictReader((folder / "images.csv").open()))
    means = [row for row in csv.DictReader((folder / "jnd.csv").open()) if row["bpp"]]
    assert means
    for mean in means:
        own = [r for r in rows if all(r[field] == mean[field] for field in ("codec", "metric", "scale"))]
        assert len({row["image"] for row in own}) == len(own) == int(mean["total"])
        assert np.mean([float(row["bpp"]) for row in own]) == pytest.approx(float(mean["bpp"]))


def test_tables_are_made_anew_from_the_results_alone(comparison, tmp_path):
    folder, _ = comparison
    (tmp_path / "results.jsonl").write_bytes((folder / "results.jsonl").read_bytes())
    assert call(run.add_arguments, run.run, "-o", tmp_path) == 0
    for name in ("tables.md", "bd_rate.csv", "ratios.csv", "rate-distortion.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(JndError, match="Give --data"):
        call(run.add_arguments, run.run, "-o", tmp_path / "empty")


def test_few_images_have_no_interval(comparison):
    folder, _ = comparison
    assert "No intervals: they need at least 12 images" in (folder / "tables.md").read_text()
    rows = list(csv.DictReader((folder / "bd_rate.csv").open())) + list(csv.DictReader((folder / "ratios.csv").open()))
    assert {row.get("low", row.get("means_low")) for row in rows} == {""}


def test_ctrl_c_ends_a_comparison_at_once(photos, tmp_path, stub):
    """The interrupt comes in the first encode; without it there would be 3 images of 6 qualities."""
    codec = codecs.of_model(stub, (0.0, 20.0, 40.0, 60.0, 80.0, 100.0))

    def encode(image: np.ndarray, quality: float) -> bytes:
        if stub.encodes == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return stub.encode(image, quality)

    results = Results(tmp_path / "r.jsonl")
    with pytest.raises(KeyboardInterrupt):
        measure.evaluate([dataclasses.replace(codec, encode=encode)], find_images(photos), ["psnr"], results, workers=1)
    assert stub.encodes <= 6


def test_a_conventional_codec_takes_chosen_qualities(photos, tmp_path):
    arguments = ("--data", photos, "--limit", 1, "--metrics", "psnr", "--viewer-images", 0, "-o", tmp_path)
    assert call(run.add_arguments, run.run, "--against", "jpeg@80+35,j2k@30", *arguments) == 0
    points = {(r["codec"], r["quality"]) for r in records(tmp_path) if r["kind"] == "point"}
    assert points == {("jpeg", 35), ("jpeg", 80), ("j2k", 30)}
    with pytest.raises(JndError, match="jpeg has no quality 97"):
        call(run.add_arguments, run.run, "--against", "jpeg@97", *arguments)
    with pytest.raises(JndError, match="as in jpeg@60"):
        call(run.add_arguments, run.run, "--against", "jpeg@6+", *arguments)


def test_bad_input_is_refused(photos, tmp_path, monkeypatch):
    with pytest.raises(JndError, match="Put at least one"):
        find_images(tmp_path)
    with pytest.raises(JndError, match="tenths"):
        evaluate(photos, tmp_path / "out", "--qualities", "10.05")
    with pytest.raises(JndError, match="Unknown metric"):
        evaluate(photos, tmp_path / "out", "--metrics", "vmaf")
    (tmp_path / "r.jsonl").write_text('{"kind": "point"}\n')
    with pytest.raises(JndError, match="Line 1"):
        Results(tmp_path / "r.jsonl")
