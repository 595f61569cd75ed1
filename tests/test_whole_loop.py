"""examples/whole_loop.py on small data: from subjects' answers to a page of savings."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import codecs
from tests.models import CONFIG
from tests.training.tiny import write_photos

for package in ("optax", "orbax.checkpoint", "ml_collections", "imagecodecs", "plotly"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[1]
# The start's sizes, and a run that takes seconds.
TINY = f"""
from configs import jnd_pixel

def get_config():
    config = jnd_pixel.get_config()
    config.model.update({CONFIG})
    config.data.update(crop=64, batch=2, cache="CACHE")
    config.train.update(optimizer="adam", warmup=1, learning_rate=1e-4)
    config.eval.update(images=1, max_size=64, qualities=(500,))
    return config
"""


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_answers_become_a_model_a_comparison_and_its_price(tmp_path, tiny_model):
    photos, held_out, out = write_photos(tmp_path / "photos", 3), tmp_path / "held_out", tmp_path / "loop"
    held_out.mkdir()
    for name in ("photo01", "photo02"):
        Image.open(photos / f"{name}.png").rotate(180).save(held_out / f"{name}.png")
    (tmp_path / "tiny.py").write_text(TINY.replace("CACHE", str(tmp_path / "cache")))

    def run(*more: str) -> subprocess.CompletedProcess:
        words = [
            "examples/whole_loop.py",
            photos,
            "--test",
            held_out,
            "-o",
            out,
            "--model",
            tiny_model,
            "--flicker",
            "webp",
            "--config",
            tmp_path / "tiny.py",
            "--metric",
            "psnr-hvs",
            "--against",
            "",
            "--goal",
            "bpp=0.8",
            "--rival",
            "avif",
            "--subjects",
            "4",
            *more,
        ]
        environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    waiting = run()
    assert waiting.returncode == 2 and "Let 4 more people take the test" in waiting.stderr
    done = run("--scripted", "--", "--config.train.steps=2")
    assert done.returncode == 0, done.stderr

    # 16 levels from 2 to 97: the observers see no difference from the 5th, 7th, 10th and 12th on (27, 40, 59 and 72), so
    # that their thresholds lie half a level below, and three of four are content with the third.
    subjects = table(out / "labels" / "jnd_subjects.csv")
    for image in ("photo00", "photo01", "photo02"):
        found = sorted(float(row["quality"]) for row in subjects if row["image"] == image)
        assert found == pytest.approx([24, 37, 56, 69], abs=4)
        reference = np.asarray(Image.open(photos / f"{image}.png"))
        expected = codecs.decode("webp", codecs.encode("webp", reference, math.ceil(found[2])))
        assert (np.asarray(Image.open(out / "set" / "Ref" / f"{image}.png")) == reference).all()
        assert (np.asarray(Image.open(out / "set" / "JND1" / f"{image}.png")) == expected).all()

    start, tuned = jnd_jax.load(tiny_model), jnd_jax.load(out / "tuned.safetensors")
    assert tuned.name == "tuned" and tuned.hash != start.hash

    bits = {row["codec"]: float(row["bpp"]) for row in table(out / "comparison" / "jnd.csv")}
    assert set(bits) == {"tuned", start.name, "jpeg", "avif"}
    assert (out / "comparison" / "report.html").stat().st_size > 1e6

    test = json.loads((out / "abtest" / "test.json").read_text())
    assert {file["image"] for file in test["files"]} == {"photo01", "photo02"} and len(test["files"]) == 6
    people = json.loads((out / "people" / "analysis.json").read_text())
    assert people["subjects"] == 4 and "attention checks" in "".join(people["excluded"].values())

    verdict = (out / "savings" / "savings.md").read_text()
    ratio = bits["tuned"] / bits["jpeg"]
    assert f"{100 * abs(1 - ratio):.0f} %" in verdict or "no difference in bytes" in verdict
    assert "4 people took part; 1 more" in verdict
    assert (out / "savings" / "savings.html").stat().st_size > 1e6
