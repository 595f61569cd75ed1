"""The codec as people use it: any size in, bytes, the same size out."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

import jnd_jax
from jnd_jax import bitstream, codec, image_codec, modelfile, zoo
from jnd_jax.codec import distortion, hyper
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.codec.linear import round_up
from jnd_jax.image_codec import measure
from jnd_jax.metrics.psnr import psnr

PHOTO = data.astronaut()


@pytest.fixture(scope="module")
def golden(golden_model):
    return jnd_jax.load(golden_model)


@pytest.mark.parametrize("name", ["astronaut-q20", "astronaut-q60", "astronaut-q100"])
def test_golden_streams_decode_for_ever(golden, golden_model, name):
    stream = (golden_model.parent / f"{name}.jnd").read_bytes()
    expected = np.asarray(Image.open(golden_model.parent / f"{name}.png"))
    decoded = golden.decode(stream)
    difference = np.abs(decoded.astype(int) - expected)
    assert decoded.shape == expected.shape and difference.max() <= 1
    assert np.mean(difference == 0) > 0.995


def round_trips(model, sizes):
    for height, width in sizes:
        image = PHOTO[:height, 200 : 200 + width]
        decoded = model.decode(model.encode(image, 90))
        assert decoded.shape == image.shape and decoded.dtype == np.uint8
        assert psnr(image, decoded) > 15, (height, width)


def test_every_side_from_1_to_65(tiny_model):
    round_trips(jnd_jax.load(tiny_model), [pair for n in range(1, 66) for pair in ((n, 66 - n), (66 - n, 1), (n, n))])


@pytest.mark.slow
def test_every_size_from_1x1_to_65x65(tiny_model):
    round_trips(jnd_jax.load(tiny_model), [(h, w) for h in range(1, 66) for w in range(1, 66)])


def test_a_large_odd_size(tiny_model):
    image = np.tile(PHOTO, (4, 3, 1))[:2047, :1365]
    model = jnd_jax.load(tiny_model)
    assert psnr(image, model.decode(model.encode(image, 95))) > 25


def test_tiles_are_invisible(golden, monkeypatch):
    image = PHOTO[:321, :400]
    stream = golden.encode(image, 70)
    whole, y = golden.decode(stream), golden.analyse(image, 700)
    with monkeypatch.context() as wide:
        wide.setattr(image_codec, "_TILE_ROW_BLOCKS", 1)
        np.testing.assert_allclose(golden.analyse(image, 700), y, atol=1e-3)
        assert np.abs(golden.decode(stream).astype(int) - whole).max() <= 1
    monkeypatch.setattr(image_codec, "TILE", 16)
    tiled = golden.analyse(image, 700)
    np.testing.assert_allclose(tiled[:, :-1], y[:, :-1], atol=1e-3)
    # Beyond the last column, a tile that fills its bucket sees zeros where a smaller one sees the repeated edge.
    np.testing.assert_allclose(tiled[:, -1], y[:, -1], atol=0.1)
    assert np.abs(golden.decode(stream).astype(int) - whole).max() <= 1


def test_quality_trades_bytes_for_fidelity(tiny_model):
    model, image = jnd_jax.load(tiny_model), PHOTO[:128, :192]
    streams = [model.encode(image, quality) for quality in (0, 25, 50, 75, 100)]
    sizes, fidelity = [len(s) for s in streams], [psnr(image, model.decode(s)) for s in streams]
    assert sizes == sorted(sizes) and fidelity == sorted(fidelity)


def test_bpp_finds_the_best_file_within_it(tiny_model):
    model, image = jnd_jax.load(tiny_model), PHOTO[:128, :192]
    stream = model.encode(image, bpp=1.0)
    assert 0.9 < 8 * len(stream) / (128 * 192) <= 1.0


def estimated_bytes(path, image, quality):
    """What training's float densities say of the latents that an encoder codes, without the header."""
    model = modelfile.load(path)
    padded = np.pad(image, [(0, round_up(side) - side) for side in image.shape[:2]] + [(0, 0)], "edge")

    def bits(model, x, quality):
        analysed, to_code = jnp.split(model.to_code(x, quality), 2, axis=-1)
        z_hat, bits_z = model.hyper_latents_and_rate(analysed, quality)
        _, bits_y = model.rate(to_code, z_hat, quality, distortion.log_activity(x))
        return jnp.sum(bits_y) + jnp.sum(bits_z)

    x = padded[None].astype(np.float32) / 255
    run = jax.jit(partial(codec.build(model.config).apply, method=bits))
    return float(run({"params": model.params}, x, jnp.full(1, 10.0 * quality))) / 8


def check_estimate(path, image, quality):
    stream = jnd_jax.load(path).encode(image, quality)
    _, chunks = bitstream.unpack(stream)
    container = len(stream) - len(chunks["y"]) - len(chunks["z"])
    estimate = estimated_bytes(path, image, quality)
    assert abs(len(stream) - container - estimate) <= 0.01 * estimate + 16, (quality, len(stream), estimate)


@pytest.mark.parametrize("quality, contrast", [(10, 1 / 8), (50, 1 / 8), (100, 1 / 16)])
def test_real_bytes_are_the_estimated_bits(golden_model, tmp_path, quality, contrast, monkeypatch):
    # Symbols beyond the tables, of which this model has many, are optimised in training only.
    monkeypatch.setattr(hyper, "RDO_DISTORTION_FACTOR", 1e9)
    # The golden model's parameters, in which every path matters, with tables as they are made today.
    golden = modelfile.load(golden_model)
    tables = coding_tables(codec.build(golden.config), golden.params)
    path = tmp_path / "anew.safetensors"
    modelfile.save(path, name="anew", config=golden.config, params=golden.params, tables=tables, card={})
    # Its scales are untrained: at full contrast many symbols lie beyond the tables, and escapes cost what no density says.
    check_estimate(path, (112 + PHOTO[:256, :256] * contrast).astype(np.uint8), quality)


@pytest.mark.skipif(not zoo.models(), reason="no model is shipped")
@pytest.mark.parametrize("quality", [0, 50, 100])
def test_real_bytes_of_the_shipped_model_are_the_estimated_bits(quality):
    check_estimate(modelfile.find(zoo.DEFAULT), PHOTO[:256, :384], quality)


@pytest.mark.skipif(not zoo.models(), reason="no model is shipped")
def test_the_shipped_model_beats_jpeg():
    image = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))
    from jnd_jax import codecs

    jpeg = codecs.encode("jpeg", image, 50)
    ours = jnd_jax.load().encode(image, bpp=8 * len(jpeg) / image[..., 0].size)
    assert len(ours) <= len(jpeg)
    assert psnr(image, jnd_jax.load().decode(ours)) > psnr(image, codecs.decode("jpeg", jpeg)) + 1


@pytest.mark.parametrize("image", [PHOTO[..., :2], PHOTO / 255, PHOTO[:0], PHOTO.astype(np.int16), "photo.png"])
def test_what_is_no_image_is_refused(tiny_model, image):
    with pytest.raises(jnd_jax.JndError, match="convert|pixels cannot be coded"):
        jnd_jax.load(tiny_model).encode(image)


def test_grey_stays_grey_and_deep_stays_deep(tiny_model):
    model, deep = jnd_jax.load(tiny_model), PHOTO.astype(np.uint16) * 13
    for image, bits in ((PHOTO[..., 1], 8), (deep, 12), (deep[..., 1], 12)):
        data = model.encode(image, 60)
        decoded = model.decode(data)
        assert bitstream.unpack(data)[0].bit_depth == bits
        assert decoded.shape == image.shape and decoded.dtype == image.dtype
        assert measure("psnr", image, decoded) > 20
    # Where the levels are as fine as those of 8 bits, so is the image.
    ratio = model.decode(model.encode(deep, 60)) / 13 - model.decode(model.encode(PHOTO, 60))
    assert abs(ratio).mean() < 4


@pytest.mark.parametrize("quality", [-1, 100.1, float("nan"), float("inf")])
def test_a_quality_out_of_range_is_refused(tiny_model, quality):
    with pytest.raises(jnd_jax.JndError, match="0 to 100"):
        jnd_jax.load(tiny_model).encode(PHOTO[:64, :64], quality)


def test_another_models_stream_is_refused(tiny_model, golden):
    stream = golden.encode(PHOTO[:64, :64])
    with pytest.raises(jnd_jax.JndError, match="made with model"):
        jnd_jax.load(tiny_model).decode(stream)


def test_a_model_without_tables_says_so(tmp_path):
    path = tmp_path / "hyperprior.safetensors"
    modelfile.save(path, name="hyperprior", config={"name": "bmshj2018-hyperprior"}, params={}, tables={}, card={})
    with pytest.raises(jnd_jax.JndError, match="no tables to code with"):
        jnd_jax.load(path)
