"""How hyper-latents are coded, trained alone."""

import sys

import numpy as np
from PIL import Image
from skimage import data

import jnd_jax
from jnd_jax import bitstream
from jnd_jax.training import hyper_context


def test_hyper_latents_take_fewer_bytes_and_nothing_else_changes(golden_model, tmp_path, monkeypatch, capsys):
    photo = data.astronaut()[:256, :256]
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos/one.png")
    target = tmp_path / "new.safetensors"
    words = [
        "hyper_context",
        str(golden_model),
        "-o",
        str(target),
        "--data",
        str(tmp_path / "photos"),
        "--steps",
        "300",
    ]
    monkeypatch.setattr(sys, "argv", words)
    hyper_context.main()
    bits, digest = capsys.readouterr().out.splitlines()
    assert bits.endswith("bits a position of the hyper-latents")
    old, new = jnd_jax.load(golden_model), jnd_jax.load(target)
    assert new.hash == digest != old.hash
    before, after = old.encode(photo, 50), new.encode(photo, 50)
    (_, chunks), (_, trained) = bitstream.unpack(before), bitstream.unpack(after)
    assert len(trained["z"]) < len(chunks["z"]) and trained["y"] == chunks["y"]
    np.testing.assert_array_equal(old.decode(before), new.decode(after))
