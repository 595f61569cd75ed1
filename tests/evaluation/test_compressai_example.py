"""The example that lets CompressAI's models into a comparison; runs where CompressAI is installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("compressai")
SCRIPT = Path(__file__).parents[2] / "examples" / "compressai_codec.py"


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)


def test_a_stream_decodes_to_what_the_model_itself_decodes(tmp_path):
    import torch
    from compressai.models import MeanScaleHyperprior

    torch.manual_seed(0)
    model = MeanScaleHyperprior(8, 12)
    with torch.no_grad():
        model.g_a[-1].weight *= 30  # latents of a few steps: else all symbols are zero
        model.g_s[-1].weight *= 30
    torch.save(model.state_dict(), tmp_path / "mbt2018-mean-3.pth.tar")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")

    assert run("encode", "mbt2018-mean", tmp_path, 3, tmp_path / "in.png", tmp_path / "a.bin").returncode == 0
    assert run("decode", "mbt2018-mean", tmp_path, tmp_path / "a.bin", tmp_path / "out.png").returncode == 0
    decoded = np.asarray(Image.open(tmp_path / "out.png"))

    model.update(force=True)
    padded = np.pad(pixels, ((0, 58), (0, 28), (0, 0)), "edge")
    with torch.no_grad():
        coded = model.eval().compress(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255)
        expected = model.decompress(coded["strings"], coded["shape"])["x_hat"][0].clamp(0, 1).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(decoded, np.round(255 * expected[:70, :100]).astype(np.uint8))
    assert decoded.std() > 5
    assert (tmp_path / "a.bin").stat().st_size == 10 + sum(4 + len(s[0]) for s in coded["strings"])


def test_missing_weights_are_named(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    done = run("encode", "mbt2018-mean", tmp_path, 3, tmp_path / "in.png", tmp_path / "a.bin")
    assert done.returncode == 1 and "put one file mbt2018-mean-3.pth.tar into" in done.stderr
