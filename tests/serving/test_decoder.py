"""The TensorFlow decoder against the codec."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax import codec, modelfile
from jnd_jax.cli import main
from jnd_jax.codec.coding import latent_coder
from jnd_jax.serving import export
from tests.serving import golden

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'jnd-jax[tf]'")

# Run where jax cannot be imported.
WITHOUT_JAX = """
import contextlib, sys
sys.modules["jax"] = None
import tensorflow as tf
with contextlib.suppress(ImportError):
    import tensorflow_compression_ops  # Registers the ops of the signatures that decode bytes.
from tests.serving import golden
synthesize = tf.saved_model.load(sys.argv[1]).signatures["synthesize"]
for name in golden.NAMES:
    header, latents, z, expected = golden.read(name)
    images = synthesize(**golden.request(header, latents, z))["images"]
    golden.assert_same_pixels(images.numpy()[0], expected)
"""


@pytest.fixture(scope="module")
def model():
    return modelfile.load(golden.MODEL)


@pytest.fixture(scope="module")
def decoder(model):
    from jnd_jax.serving.decoder import Decoder

    return Decoder(model)


def test_a_saved_model_is_made_and_decodes_without_jax(exported):
    root = golden.FOLDER.parents[1]
    subprocess.run([sys.executable, "-c", WITHOUT_JAX, exported], cwd=root, check=True)


@pytest.mark.parametrize("name", golden.NAMES)
def test_scale_indexes_are_the_codecs_to_the_last_one(model, decoder, name):
    header, latents, z, _ = golden.read(name)
    inputs = golden.integers(header, latents, z)
    coder = latent_coder(model.params, model.tables)
    for number, expected in enumerate(export.of_passes(coder, latents.indexes[None])):
        symbols = export.before(coder, inputs["symbols"], number)
        indexes = decoder.hyper(inputs["z"], inputs["quality"], symbols, tf.constant(number))["indexes"]
        np.testing.assert_array_equal(indexes, expected)
    y_hat = decoder.gained_latents(inputs["symbols"], inputs["z"])
    np.testing.assert_allclose(y_hat[0], latents.y_hat, atol=2e-5)


@pytest.mark.parametrize("name", golden.NAMES)
def test_pixels_before_rounding_agree_with_jax(model, decoder, name):
    header, latents, z, _ = golden.read(name)
    inputs = golden.integers(header, latents, z)
    ours = decoder.synthesis(decoder.gained_latents(inputs["symbols"], inputs["z"]), inputs["quality"]).numpy()
    h, w = latents.y_hat.shape[:2]
    padded = np.pad(latents.y_hat, [(0, -h % 8), (0, -w % 8), (0, 0)])[None]
    theirs = jax.jit(
        lambda params, y, q: codec.build(model.config).apply({"params": params}, y, q, (h, w), method="synthesis")
    )(model.params, padded, jnp.full(1, float(header.quality)))
    np.testing.assert_allclose(ours, theirs[:, : 16 * h, : 16 * w], atol=1e-5)


@pytest.mark.parametrize("h, w", [(4, 4), (12, 4), (4, 68)])
def test_any_size_decodes_as_the_codec_does(model, decoder, h, w):
    coder, reference = latent_coder(model.params, model.tables), export.reference_pixels(model)
    drawn = export.sample(coder, h, w, 700)
    ours = decoder.synthesize(drawn.symbols, drawn.z, drawn.quality, 16 * h - 9, 16 * w - 2).numpy()
    golden.assert_same_pixels(ours, reference(drawn)[:, : 16 * h - 9, : 16 * w - 2])


def test_a_batch_decodes_as_its_images_do(model, decoder):
    coder = latent_coder(model.params, model.tables)
    several = [export.sample(coder, 8, 4, quality, seed) for seed, quality in enumerate((30, 500, 999))]
    stack = lambda field: np.concatenate([getattr(drawn, field) for drawn in several])
    together = decoder.synthesize(stack("symbols"), stack("z"), stack("quality"), 100, 50).numpy()
    alone = [decoder.synthesize(drawn.symbols, drawn.z, drawn.quality, 100, 50).numpy() for drawn in several]
    golden.assert_same_pixels(together, np.concatenate(alone))


def test_the_report_says_what_was_measured(tmp_path, capsys, model):
    assert main(["export", str(golden.MODEL), "-o", str(tmp_path / "out"), "--plain"]) == 0
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    assert report == json.loads(capsys.readouterr().out)
    assert report["hash"] == model.hash and report["versions"]["tensorflow"] == tf.__version__
    assert set(report["signatures"]) == {"synthesize", "synthesize_image", "hyper", "serving_default"}
    assert report["differences"]["scale_indexes_wrong"] == 0 and report["differences"]["scale_indexes"] > 1000
    assert report["differences"]["pixels"]["largest_difference"] <= 1


def test_tflite_decodes_the_size_it_was_made_for(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    header, latents, z, expected = golden.read("astronaut-q20")
    size = f"{header.width}x{header.height}"
    assert main(["export", str(golden.MODEL), "-o", str(tmp_path / "out"), "--format", "tflite", "--size", size]) == 0
    runner = Interpreter(str(tmp_path / "out/synthesize-float32.tflite")).get_signature_runner("synthesize")
    golden.assert_same_pixels(runner(**golden.integers(header, latents, z))["images"][0], expected)
    runner = Interpreter(str(tmp_path / "out/synthesize-float16.tflite")).get_signature_runner("synthesize")
    half = runner(**golden.integers(header, latents, z))["images"][0]
    assert np.abs(half.astype(int) - expected).max() <= 2


def test_a_model_that_cannot_code_is_refused(tmp_path):
    path = tmp_path / "hyperprior.safetensors"
    modelfile.save(path, name="hyperprior", config={"name": "bmshj2018-hyperprior"}, params={}, tables={}, card={})
    assert main(["export", str(path), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
