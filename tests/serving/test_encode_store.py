"""The bulk job on Ray."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import zoo
from tests.serving import kill

pytest.importorskip("ray", reason="needs Ray: pip install 'jnd-jax[bulk]'")
from examples import encode_store  # noqa: E402  needs Ray


@pytest.mark.slow
def test_no_image_is_lost_or_done_twice_when_workers_and_jobs_are_killed(tmp_path):
    counts = kill.measure(tmp_path, 60, (256, 192), str(kill.MODEL))
    assert kill.right(counts), counts


def test_what_is_no_image_is_named_and_the_others_are_done(tmp_path, golden_model):
    photos, store = tmp_path / "photos", tmp_path / "store"
    kill.write_images(photos, 2, (64, 64))
    (photos / "broken.png").write_bytes(b"none")
    store.mkdir()
    (store / encode_store.MANIFEST).write_text('{"file": "000')  # as a job leaves it that was killed while it wrote
    command = [
        sys.executable,
        kill.ROOT / "examples" / "encode_store.py",
        photos,
        "-o",
        store,
        "--model",
        golden_model,
        "--workers",
        "1",
        "--verify",
        "1",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 2 and "2 encoded, 0 kept, 1 failed" in run.stdout and "broken.png" in run.stderr
    assert "2 read back: at least" in run.stdout and "core hours" in run.stdout
    lines = encode_store.read_manifest(store / encode_store.MANIFEST)
    assert {name: line["sha256"] for name, line in lines.items()} == {
        name: encode_store.sha256((store / name).read_bytes()) for name in ("00000.jnd", "00001.jnd")
    }


def test_a_file_is_written_again_if_source_settings_or_itself_have_changed(tmp_path, golden_model):
    kill.write_images(tmp_path / "photos", 2, (64, 64))
    source, other = tmp_path / "photos" / "00000.png", tmp_path / "photos" / "00001.png"
    codec = jnd_jax.load(golden_model)
    settings = {"model": str(golden_model), "hash": codec.hash, "quality": 50.0, "coder": "constriction", "effort": 0}
    encode = lambda line, **changes: encode_store.encode(str(source), str(tmp_path), "a.jnd", settings | changes, line)[
        :2
    ]
    line, written = encode(None)
    assert written and (tmp_path / "a.jnd").read_bytes() == codec.encode(np.asarray(Image.open(source)), 50)
    assert encode(line) == (line, False)
    (tmp_path / "a.jnd").write_bytes(b"damaged")
    assert encode(line) == (line, True)
    assert encode(line, quality=40.0)[1]
    source.write_bytes(other.read_bytes())
    assert encode(line)[1] and (tmp_path / "a.jnd").read_bytes() == codec.encode(np.asarray(Image.open(other)), 50)


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"file": "a.jnd", "bytes": 1}\n{"file": "a.jnd", "bytes": 2}\n{"file": "b.jnd", "by')
    assert encode_store.read_manifest(manifest) == {"a.jnd": {"file": "a.jnd", "bytes": 2}}


def test_any_storage_that_fsspec_opens_will_do(golden_model):
    """Names of one stem keep their suffix; what is written is found again under its name."""
    picture = (zoo.FOLDER / "chelsea.png").read_bytes()
    for name in ("a.png", "a.jpg", "b/c.png", "b/notes.txt"):
        encode_store.write(f"memory://photos/{name}", picture)
    pairs = encode_store.plan(["memory://photos"])
    assert [name for _, name in pairs] == ["a.jpg.jnd", "a.png.jnd", "b/c.jnd"]
    settings = {"model": str(golden_model), "quality": 30.0, "coder": "constriction", "effort": 0}
    source, name = pairs[2]
    line, written, seconds, psnr = encode_store.encode(source, "memory://store", name, settings, None, verify=True)
    file = encode_store.read("memory://store/b/c.jnd")
    pixels, decoded = np.asarray(Image.open(zoo.FOLDER / "chelsea.png")), jnd_jax.load(golden_model).decode(file)
    error = np.mean((pixels.astype(float) - decoded) ** 2)
    assert written and seconds > 0 and psnr == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
    assert encode_store.sha256(file) == line["sha256"]
    assert encode_store.encode(source, "memory://store", name, settings, line)[:2] == (line, False)
    with pytest.raises(jnd_jax.JndError, match="gone"):
        encode_store.encode("memory://photos/none.png", "memory://store", "none.jnd", settings, None)


def test_the_same_share_of_files_is_verified_every_time():
    names = [f"{n:05}.jnd" for n in range(10_000)]
    chosen = [name for name in names if encode_store.sampled(name, 0.01)]
    assert 60 < len(chosen) < 140 and chosen == [name for name in names if encode_store.sampled(name, 0.01)]
    assert all(encode_store.sampled(name, 1.0) for name in names)


class Inline:
    """Ray as far as the job needs it, in this process: tasks are done when they are asked for."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self):
        self.ahead = 0

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=lambda *arguments: partial(function, *arguments))

    def wait(self, pending):
        self.ahead = max(self.ahead, len(pending))
        return pending[:1], pending[1:]

    def get(self, task):
        return task()


def test_the_driver_stays_small_over_a_large_store(monkeypatch):
    """100,000 objects: never more than `AHEAD` tasks at once, every outcome handed on, failures among them."""

    def encode(source, store, name, settings, line, verify):
        if name.endswith("7.jnd"):
            raise OSError("the storage is away")
        return {"file": name, "bytes": 1}, True, 0.1, 40.0 if verify else None

    inline = Inline()
    monkeypatch.setattr(encode_store, "ray", inline)
    monkeypatch.setattr(encode_store, "encode", encode)
    pairs = [(f"memory://photos/{n}.png", f"{n}.jnd") for n in range(100_000)]
    args, totals = SimpleNamespace(output="memory://store", verify=0.01), encode_store.Totals()
    tracemalloc.start()
    for _, outcome in encode_store.results(pairs, {}, args, {}):
        if not isinstance(outcome, Exception):
            totals.add(*outcome)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (totals.encoded, inline.ahead) == (90_000, encode_store.AHEAD)
    assert 600 < len(totals.psnr) < 1200 and peak < 2**20
    assert "a million such images: 28 core hours (1 at 0.04 an hour)" in " ".join(totals.report(0.04))
