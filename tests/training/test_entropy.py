from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from PIL import Image
from skimage import data

import jnd_jax
from jnd_jax import modelfile
from jnd_jax.training import entropy, packaging
from tests.models import write_tiny_model


def test_what_cannot_be_trained_is_said_in_one_sentence(tmp_path, golden_model):
    Image.fromarray(data.astronaut()[:128, :300]).save(tmp_path / "small.png")
    for model, says in ((tmp_path / "none.safetensors", "no model"), (golden_model, "256 pixels a side")):
        words = [model, "--workdir", tmp_path / "run", "--data", tmp_path]
        done = subprocess.run(
            [sys.executable, "-m", "jnd_jax.training.entropy", *words], capture_output=True, text=True
        )
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_it_keeps_the_transforms_and_lowers_the_rate(tmp_path, monkeypatch, capsys):
    write_tiny_model(tmp_path / "tiny.safetensors")
    (tmp_path / "photos").mkdir()
    for i, photo in enumerate((data.astronaut(), data.coffee()) * 5):
        Image.fromarray(photo[:256, 10 * i : 10 * i + 256]).save(tmp_path / f"photos/{i}.png")
    command = ["entropy", str(tmp_path / "tiny.safetensors"), "--workdir", str(tmp_path / "run")]
    command += ["--data", str(tmp_path / "photos"), "--batch", "2", "--every", "10"]
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "10"])
    entropy.main()
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "30"])
    entropy.main()  # goes on from step 10
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["bpp_q500"] < lines[0]["bpp_q500"]

    before = modelfile.load(tmp_path / "tiny.safetensors")
    after = modelfile.load(tmp_path / "run/model.safetensors")
    order = np.lexsort(before.params["linear_synthesis"].T)
    moved = np.lexsort(after.params["linear_synthesis"].T)
    np.testing.assert_allclose(
        before.params["linear_synthesis"][order], after.params["linear_synthesis"][moved], rtol=2e-3
    )
    image, codec = data.astronaut()[:128, :128], jnd_jax.load(tmp_path / "run/model.safetensors")
    coded = codec.encode(image, 80)
    assert codec.decode(coded).shape == image.shape

    on = ["entropy", str(tmp_path / "run/model.safetensors"), "--workdir", str(tmp_path / "on"), *command[4:]]
    monkeypatch.setattr(sys, "argv", [*on, "--keep", "--hyper-latents", "--learning-rate", "1e-3", "--steps", "10"])
    entropy.main()
    trained = modelfile.load(tmp_path / "on/model.safetensors").params
    changed = {name for name, value in after.params.items() if name.startswith("h") and np.any(value != trained[name])}
    assert {"hyper_analysis_reduce_weight", "hyper_analysis_down2_bias"} <= changed
    np.testing.assert_array_equal(trained["linear_synthesis"], after.params["linear_synthesis"])
    line = json.loads((tmp_path / "on/metrics.jsonl").read_text())
    assert line["bpp_q500"] < 1.02 * lines[-1]["bpp_q500"]

    counted = tmp_path / "counted.safetensors"
    monkeypatch.setattr(sys, "argv", ["packaging", str(tmp_path / "run/model.safetensors"), "-o", str(counted)])
    sys.argv += ["--count", str(tmp_path / "photos")]
    packaging.main()
    assert len(jnd_jax.load(counted).encode(image, 80)) < len(coded)
