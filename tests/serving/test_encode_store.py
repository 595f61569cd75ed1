"""The bulk job on Ray."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import jnd_jax
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
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 2 and "2 encoded, 0 kept, 1 failed" in run.stdout and "broken.png" in run.stderr
    lines = encode_store.read_manifest(store / encode_store.MANIFEST)
    assert {name: line["sha256"] for name, line in lines.items()} == {
        name: encode_store.sha256(store / name) for name in ("00000.jnd", "00001.jnd")
    }


def test_a_file_is_written_again_if_source_settings_or_itself_have_changed(tmp_path, golden_model):
    kill.write_images(tmp_path / "photos", 2, (64, 64))
    source, other = tmp_path / "photos" / "00000.png", tmp_path / "photos" / "00001.png"
    codec = jnd_jax.load(golden_model)
    settings = {"model": str(golden_model), "hash": codec.hash, "quality": 50.0, "coder": "constriction"}
    encode = lambda line, **changes: encode_store.encode(source, tmp_path, "a.jnd", settings | changes, line)
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
