"""What an encoder's effort gives: fewer bits at the same look, in files like any others."""

from __future__ import annotations

import io

import jax
import numpy as np
import pytest
from PIL import Image
from skimage import data

import jnd_jax
import jnd_jax.pillow  # noqa: F401  registers the format
from jnd_jax import JndError, cli, codecs, image_codec, metrics
from jnd_jax.codec import distortion, hyper, lapped
from jnd_jax.losses.distances import make_distance
from jnd_jax.metrics.psnr import psnr
from jnd_jax.perception import masked_dct

PHOTO = data.astronaut()[:192, 128:320]


@pytest.fixture(scope="module")
def base():
    return jnd_jax.load("jnd-base")


@pytest.fixture(scope="module")
def as_analysed():
    """Files of PHOTO whose latents nothing corrected, by model and quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lapped, "_CORRECTION_RATE", 0.0)
        jax.clear_caches()  # of programs that correct
        files = {
            (name, quality): jnd_jax.load(name).encode(PHOTO, quality)
            for name, qualities in (("jnd-base", (20, 50, 80)), ("jnd-perceptual", (20, 40)))
            for quality in qualities
        }
    jax.clear_caches()
    return files


def cost(codec, file, quality):
    """Bits + lambda * squared error of a file of PHOTO, what `jnd-base` was trained for, in bits a pixel."""
    error = 255.0**2 * 10 ** (-psnr(PHOTO, codec.decode(file)) / 10)
    return 8 * len(file) / PHOTO[..., 0].size + float(hyper.lmbda(10 * quality)) * error


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_corrected_latents_cost_less_where_squared_error_counts(base, as_analysed, quality):
    plain, once, thrice = (
        cost(base, file, quality)
        for file in (as_analysed["jnd-base", quality], *(base.encode(PHOTO, quality, effort=n) for n in (0, 2)))
    )
    assert once < 0.996 * plain
    assert thrice < 0.993 * plain


@pytest.mark.parametrize("quality", [20, 40])
def test_corrected_latents_cost_less_where_visible_errors_count(as_analysed, quality):
    codec, whole = jnd_jax.load(), data.astronaut()
    trained = make_distance({"cvvdp": 0.35, "masked-dct": 0.6, "mse": 0.05})
    lowered = lambda x, y: distortion.visible_error(0.95, x, y)  # noqa: E731

    def cost(image, file, distance):
        """Bits + lambda * distance, in bits a pixel."""
        error = distance(*(x[None] / np.float32(255) for x in (image, codec.decode(file))))[0]
        return 8 * len(file) / image[..., 0].size + float(hyper.lmbda(10 * quality)) * float(error)

    plain = as_analysed["jnd-perceptual", quality]
    once, twice = (codec.encode(PHOTO, quality, effort=n) for n in (0, 1))
    of_whole = [codec.encode(whole, quality, effort=n) for n in (0, 1)]
    # On the small photograph an effort gains nothing over the first correction.
    for image, before, after, of_before in (
        (PHOTO, plain, once, 0.995),
        (PHOTO, plain, twice, 0.995),
        (whole, *of_whole, 0.995),
    ):
        assert cost(image, after, lowered) < of_before * cost(image, before, lowered)
        # The loss that models are trained with agrees.
        assert cost(image, after, trained) < cost(image, before, trained)


@pytest.mark.slow
def test_the_default_model_needs_fewer_bits_at_the_same_look():
    codec, image = jnd_jax.load(), data.astronaut()

    def curve(effort):
        files = [codec.encode(image, quality, effort=effort) for quality in (35, 45)]
        return [(metrics.measure("ssimulacra2", image, codec.decode(file)), np.log(len(file))) for file in files]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lapped, "_CORRECTION_RATE", 0.0)
        jax.clear_caches()  # of programs that correct
        plain = curve(0)
    jax.clear_caches()
    curves = {effort: curve(effort) for effort in (0, 1, 3)}
    middle = np.mean([score for score, _ in curves[0]])
    of_plain = np.interp(middle, *zip(*plain))
    fewer = {effort: of_plain - np.interp(middle, *zip(*found)) for effort, found in curves.items()}
    assert fewer[0] > 0.065
    assert fewer[1] > 0.082
    assert fewer[3] > 0.092


def test_tiles_are_corrected_like_the_whole(base, monkeypatch):
    wide = data.astronaut()[:64]
    whole = base.encode(wide, 50, effort=2)
    monkeypatch.setattr(image_codec, "TILE", 16)
    tiled = base.encode(wide, 50, effort=2)
    assert abs(len(tiled) / len(whole) - 1) < 0.01
    assert psnr(base.decode(tiled), base.decode(whole)) > 40


@pytest.mark.parametrize(
    "image",
    [PHOTO[:1, :1], PHOTO[:70, :33], PHOTO[..., 0], PHOTO.astype(np.uint16) * 16],
    ids=["one pixel", "odd", "grey", "12 bits"],
)
def test_every_kind_of_image(base, image):
    decoded = base.decode(base.encode(image, 60, effort=1))
    assert decoded.shape == image.shape and decoded.dtype == image.dtype


def test_with_regions_and_targets(base):
    mask = np.zeros(PHOTO.shape[:2], np.uint8)
    mask[:96] = 255
    plain, tried = (base.encode(PHOTO, 20, mask=mask, region_quality=70, effort=effort) for effort in (0, 2))
    assert psnr(PHOTO[:80], base.decode(tried)[:80]) > psnr(PHOTO[:80], base.decode(plain)[:80])
    file = base.encode(PHOTO, bpp=0.5, effort=1)
    assert 8 * len(file) <= 0.5 * PHOTO[..., 0].size


@pytest.mark.parametrize("effort", [-1, 4, 1.5, 2.0, True, "2", None])
def test_what_is_no_effort_is_refused(base, effort):
    with pytest.raises(JndError, match="0 to 3"):
        base.encode(PHOTO, effort=effort)


def test_all_ways_to_encode_take_it(tmp_path, base):
    small = PHOTO[:64, :64]
    file = base.encode(small, 40, effort=2)
    assert file != base.encode(small, 40)
    Image.fromarray(small).save(tmp_path / "small.png")
    arguments = ["--model", "jnd-base", "--quality", "40", "--effort", "2"]
    assert cli.main(["encode", str(tmp_path / "small.png"), "-o", str(tmp_path / "small.jnd"), *arguments]) == 0
    assert (tmp_path / "small.jnd").read_bytes() == file
    assert codecs.encode("jnd-base:2", small, 40.0) == file
    assert codecs.lookup("jnd-base:2").version != codecs.lookup("jnd-base").version
    written = io.BytesIO()
    Image.fromarray(small).save(written, "JND", model="jnd-base", quality=40, effort=2)
    assert written.getvalue() == file


@pytest.fixture(scope="module")
def original_and_coded():
    written = io.BytesIO()
    Image.fromarray(PHOTO).save(written, "JPEG", quality=60)
    return [np.asarray(image)[None] / np.float32(255) for image in (PHOTO, Image.open(written))]


def test_what_it_lowers_are_errors_that_are_masked_at_three_resolutions(original_and_coded):
    # Of blocks of 4x4 equal pixels a smaller picture is known without a mean.
    x, y = (np.repeat(np.repeat(image[:, ::4, ::4], 4, 1), 4, 2) for image in original_and_coded)
    # 10 makes it as large as squared error, 8 is where lightness is cut off.
    seen = lambda x, y: 10.0 * np.mean(masked_dct.block_errors(x, y - x, 8.0), (1, 2))  # noqa: E731
    expected = 0.05 * make_distance("mse")(x, y) + 0.95 * 0.6 * seen(x, y)
    for side in (2, 4):
        expected += 0.95 * 0.7 * seen(x[:, ::side, ::side], y[:, ::side, ::side])
    np.testing.assert_allclose(distortion.visible_error(0.95, x, y), expected, rtol=1e-4)
    np.testing.assert_allclose(distortion.visible_error(0.0, x, y), make_distance("mse")(x, y), rtol=1e-5)


def test_it_lowers_errors_most_where_most_is_left():
    rng = np.random.default_rng(0)
    x = np.full((1, 64, 64, 3), 0.5, np.float32)
    noise = rng.uniform(-0.01, 0.01, x.shape).astype(np.float32)
    noise[:, :32] *= 4
    seen = lambda y: masked_dct.masked_dct_error(x, y)[0]  # noqa: E731
    upper_and_lower = lambda function: np.linalg.norm(  # noqa: E731
        np.asarray(jax.grad(function)(x + noise)).reshape(2, -1), axis=1
    )
    pooled = upper_and_lower(lambda y: distortion.visible_error(1.0, x, y)[0])
    plain = upper_and_lower(seen)
    assert pooled[0] / pooled[1] > 3 * plain[0] / plain[1]
    assert np.isfinite(jax.grad(lambda y: distortion.visible_error(0.95, x, y)[0])(x)).all()


def test_steps_end_where_the_errors_of_a_block_are_least(original_and_coded):
    x, y = original_and_coded
    # From y, the original lies half of twice the difference away: in all blocks, for each part of the error.
    for share in (0.0, 0.95, 1.0):
        np.testing.assert_allclose(distortion.least_error_at(share, x, y, 2 * (x - y)), 0.5, rtol=1e-3)
    assert not np.any(distortion.least_error_at(0.95, x, y, np.zeros_like(x)))
    # What changes in one corner concerns the blocks around it.
    corner = np.zeros_like(x)
    corner[:, :16, :16] = (x - y)[:, :16, :16]
    found = np.asarray(distortion.least_error_at(0.0, x, y, corner))[0]
    assert (found[:2, :2] > 0.9).all() and not found[4:].any() and not found[:, 4:].any()
