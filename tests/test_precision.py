"""Numbers that are compared or promised are those of float32, whatever an accelerator does by default."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax import image_codec, metrics, modelfile
from jnd_jax.codec import coding, hyper
from jnd_jax.losses import make_loss
from jnd_jax.losses.distances import DISTANCES
from jnd_jax.training.validate import make_evaluator
from tests.emulator import rounded_operands
from tests.photos import noisy
from tests.training.test_validate import Darker

GOLDEN = Path(__file__).parent / "golden"
KINDS = ["bfloat16", "tf32"]


def scores(photos):
    """The validation score of each distance, of images ten levels too dark."""
    images = [{"image": np.round(255 * photo).astype(np.uint8)} for photo in photos]
    loss = lambda name: make_loss({"name": "rate_distortion", "distance": name})
    return {name: make_evaluator(Darker(), images, (500,), loss(name))({})[0]["score"] for name in DISTANCES}


def test_validation_scores_are_exact_with_every_distance(photos):
    expected = scores(photos)
    for kind in KINDS:
        with rounded_operands(kind):
            assert scores(photos) == pytest.approx(expected, rel=1e-4), kind


def test_the_emulator_shows_what_the_default_precision_would_do(photos):
    y = noisy(photos, 4)
    loss = make_loss({"name": "rate_distortion", "distance": "psnr-hvs"})
    exact = np.asarray(loss({"image": photos}, y))
    with rounded_operands("bfloat16"):
        rounded = np.asarray(loss({"image": photos}, y))
        with jax.default_matmul_precision("highest"):
            np.testing.assert_allclose(loss({"image": photos}, y), exact, rtol=1e-4)
    assert np.abs(rounded / exact - 1).max() > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_are_exact(photos, kind):
    pair = [
        np.round(255 * image[0]).astype(np.uint8)
        for image in (np.tile(photos, (1, 3, 3, 1)), noisy(np.tile(photos, (1, 3, 3, 1)), 5))
    ]
    expected = metrics.measure("ms-ssim", *pair)
    with rounded_operands(kind):
        assert metrics.measure("ms-ssim", *pair) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_pixels_are_exact(kind):
    data = (GOLDEN / "astronaut-q60.jnd").read_bytes()
    decode = lambda: image_codec.ImageCodec(modelfile.load(GOLDEN / "tiny.safetensors")).decode(data)
    expected = decode()
    with rounded_operands(kind):
        np.testing.assert_array_equal(decode(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_training_sees_the_scale_indexes_of_files(kind):
    """Integers to 255 survive the rounding of operands: no accelerator needs more than its default precision here."""
    file, rng = modelfile.load(GOLDEN / "tiny.safetensors"), np.random.default_rng(0)
    coder = coding.latent_coder(file.params, file.tables)
    z = rng.integers(-127, 128, (2, 2, file.config["hyper_latents"])).astype(np.float32)
    symbols = np.round(rng.laplace(0, 20, (8, 8, file.config["latents"]))).astype(np.float32)
    level, offset = hyper.quality_level(600), hyper.scale_offset(coder.scale_offset, 600).astype(np.float32)

    def indexes(xp):
        halves = hyper.halves(xp, xp.asarray(symbols))
        given = lambda channels, half: (halves[half][..., channels],)
        known = lambda mean, index, symbols: symbols
        q, p = jax.tree.map(xp.asarray, (hyper.folded(coder.scale), coder.mean))
        level_here = xp.full((1, 1, 1), level)
        coded = hyper.passes(xp, q, p, xp.asarray(z), level_here, offset[None, None], given, known, xp.floor)
        return np.asarray(coded.indexes)

    expected = indexes(np)
    assert len(np.unique(expected)) > 10
    with rounded_operands(kind):
        np.testing.assert_array_equal(indexes(jnp), expected)
