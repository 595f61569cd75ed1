"""What shipped models wrote decodes for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import bitstream, modelfile, zoo

GOLDEN = Path(__file__).parent / "golden" / "shipped"


def test_every_shipped_model_has_a_golden_stream():
    assert {path.stem for path in GOLDEN.glob("*.jnd")} == set(zoo.models()), "run python tests/golden/make_shipped.py"


@pytest.mark.parametrize("name", zoo.models())
def test_the_golden_stream_of_a_shipped_model_decodes(name):
    stream = (GOLDEN / f"{name}.jnd").read_bytes()
    assert bitstream.unpack(stream)[0].model == modelfile.describe(zoo.models()[name])["hash"]
    expected = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    difference = np.abs(jnd_jax.load(name).decode(stream) - expected)
    assert difference.max() <= 1 and np.mean(difference == 0) > 0.995


@pytest.mark.parametrize("name, meant", [("a", "a-10"), ("a-9", "a-9"), ("a-1", None), ("a-b", "a-b-2")])
def test_a_name_without_a_number_means_the_newest(name, meant):
    assert zoo.resolve(name, ["a-9", "a-10", "a-b-2"]) == meant
