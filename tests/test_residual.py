"""A bound on the error of every sample: kept, on other machines too, and refused where it is damaged."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

import jnd_jax
from jnd_jax import bitstream, images, residual
from jnd_jax.cli import main
from jnd_jax.errors import JndError

PHOTO = np.ascontiguousarray(data.astronaut()[:70, 100:201])
POLICY = 'about = "a test"\ntarget = "psnr=31"\nfloor = "psnr=30"\nregion_quality = 90\nmax_error = {}\n'


@pytest.fixture
def policy(tmp_path):
    def write(max_error):
        path = tmp_path / "strict.toml"
        path.write_text(POLICY.format(max_error))
        return str(path)

    return write


@pytest.mark.parametrize("max_error", [2, 3, 5, 20, 127])
@pytest.mark.parametrize("drift", [-1, 0, 1])
def test_the_bound_holds_for_any_images_and_a_level_of_drift(max_error, drift):
    rng = np.random.default_rng(0)
    image, decoded = rng.integers(0, 256, (2, 33, 17, 3), dtype=np.uint8)
    image[0], decoded[0], image[1], decoded[1] = 0, 255, 255, 0
    chunk = residual.pack(image, decoded, max_error)
    elsewhere = np.clip(decoded.astype(int) + drift, 0, 255).astype(np.uint8)
    error = np.abs(residual.apply(chunk, elsewhere).astype(int) - image)
    assert error.max() <= max_error and residual.max_error(chunk) == max_error
    if not drift:
        assert error.max() <= max_error - 1


@pytest.mark.parametrize("max_error", [2, 6])
def test_a_policy_bounds_every_sample_and_says_so(tiny_model, policy, max_error):
    model = jnd_jax.load(tiny_model)
    stream = model.encode(PHOTO, policy=policy(max_error))
    error = np.abs(model.decode(stream).astype(int) - PHOTO)
    assert 0 < error.max() < max_error
    chunks = bitstream.unpack(stream)[1]
    note = json.loads(chunks["note"])
    assert note["max_error"] == max_error == residual.max_error(chunks["residual"])
    assert note["reached"] >= 31 and note["floor"]["reached"] >= 30
    # The target is searched without the residual, or it would be left all of the work.
    assert bitstream.unpack(stream)[0].quality == bitstream.unpack(model.encode(PHOTO, target="psnr=31"))[0].quality > 0


@pytest.mark.parametrize("dtype, depth", [(np.uint8, 8), (np.uint16, 12)])
def test_a_drawing_is_stored_itself_where_that_takes_less(dtype, depth):
    drawing = np.zeros((64, 64), dtype)
    drawing[16:48] = 200
    noise = np.random.default_rng(0).integers(-30, 31, drawing.shape)
    decoded = np.clip(drawing + noise, 0, 255).astype(dtype)
    chunk = residual.pack(drawing, decoded, 4, depth)
    assert residual.max_error(chunk, depth) == residual.LOSSLESS
    np.testing.assert_array_equal(residual.apply(chunk, decoded, depth), drawing)


def test_a_smaller_error_costs_more(tiny_model, policy):
    model = jnd_jax.load(tiny_model)
    sizes = [len(model.encode(PHOTO, policy=policy(e))) for e in (2, 4, 16)]
    assert sizes[0] > 1.3 * sizes[1] > 1.5 * sizes[2]


def test_a_damaged_record_of_errors_is_refused(tiny_model, policy):
    model = jnd_jax.load(tiny_model)
    header, chunks = bitstream.unpack(model.encode(PHOTO, policy=policy(4)))
    for damaged in (chunks["residual"][:40], residual.pack(PHOTO[:9], PHOTO[:9], 4), b""):
        with pytest.raises(JndError, match="record of errors"):
            model.decode(bitstream.pack(header, chunks | {"residual": damaged}))


@pytest.mark.parametrize("max_error", [-1, 1, 128])
def test_a_bound_out_of_range_is_refused(policy, max_error):
    from jnd_jax import policy as policies

    with pytest.raises(JndError, match="lossless.* or 2 to 127"):
        residual.pack(PHOTO, PHOTO, max_error)
    if max_error < 2:
        with pytest.raises(JndError, match="lossless.* or 2 to 32767"):
            policies.load(policy(max_error))


def test_no_error_at_all_is_lossless_on_every_machine(tiny_model, policy):
    model = jnd_jax.load(tiny_model)
    stream = model.encode(PHOTO, policy=policy(0))
    np.testing.assert_array_equal(model.decode(stream), PHOTO)
    chunk = bitstream.unpack(stream)[1]["residual"]
    np.testing.assert_array_equal(residual.apply(chunk, 255 - PHOTO), PHOTO)
    assert residual.max_error(chunk) == 0


@pytest.mark.parametrize("shape", [(64, 80), (1, 1), (1, 70), (3, 5), (24, 32, 3)])
def test_sixteen_bits_without_loss(shape):
    rng = np.random.default_rng(0)
    image = (
        (np.linspace(0, 4000, int(np.prod(shape))).reshape(shape) + rng.normal(0, 9, shape)).clip(0).astype(np.uint16)
    )
    chunk = residual.pack(image, image // 2, 0, 12)
    np.testing.assert_array_equal(residual.apply(chunk, image // 3, 12), image)
    as_png = images.encode_lossless(image)
    assert len(chunk) <= 2 + len(as_png) * (0.8 if shape == (64, 80) else 1)
    np.testing.assert_array_equal(residual.apply(chunk[:2] + as_png, image // 3, 12), image)


def test_a_record_of_errors_of_another_depth_is_refused():
    grey = Image.fromarray(np.full((16, 16), 9, np.uint8))
    file = io.BytesIO()
    grey.save(file, "JPEG2000", no_jp2=True)
    with pytest.raises(JndError, match="not grey of 16 bits"):
        residual.apply(b"\0\0" + file.getvalue(), np.zeros((16, 16), np.uint16), 12)


def test_hidden_samples_are_kept_without_loss_at_any_depth(tiny_model, policy):
    pixels = np.full((32, 32), 500, np.uint16)
    pixels[:4, :4] = 65535
    alpha = np.full((32, 32), 65535, np.uint16)
    alpha[:4, :4] = 0
    extras = images.to_chunks(images.Picture(pixels, alpha))
    model = jnd_jax.load(tiny_model)
    np.testing.assert_array_equal(model.decode(model.encode(pixels, policy=policy(0), extras=extras)), pixels)


def test_a_jpeg_that_loses_the_bound_says_so(tiny_model, policy, tmp_path, capsys):
    (tmp_path / "a.jnd").write_bytes(jnd_jax.load(tiny_model).encode(PHOTO, policy=policy(4)))
    for suffix, loses in (("jpg", True), ("png", False)):
        command = ["decode", str(tmp_path / "a.jnd"), "-o", str(tmp_path / f"a.{suffix}"), "--model", str(tiny_model)]
        assert main(command) == 0
        assert ("bound" in capsys.readouterr().err) == loses


def test_info_shows_the_bound(tiny_model, policy, tmp_path, capsys):
    stream = jnd_jax.load(tiny_model).encode(PHOTO, policy=policy(4))
    (tmp_path / "a.jnd").write_bytes(stream)
    assert main(["info", str(tmp_path / "a.jnd"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_error"] == 4
