"""A quality by region: bits where they are asked for, in files that decode anywhere."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from skimage import data

import jnd_jax
from jnd_jax import bitstream, image_codec, modelfile
from jnd_jax.codec import regions
from jnd_jax.errors import JndError
from jnd_jax.serving.transcode import transcode
from tests.models import write_tiny_model

PHOTO = data.astronaut()[:150, 100:310]
MASK = np.zeros(PHOTO.shape[:2], np.uint8)
MASK[40:90, 50:120] = 255


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A model with so many channels that its qualities are far apart."""
    path = tmp_path_factory.mktemp("models") / "jnd-wide-1.safetensors"
    write_tiny_model(path, latents=192)
    return path


@pytest.fixture(scope="module")
def model(model_path):
    return jnd_jax.load(model_path)


def inside_and_outside(decoded):
    """PSNR in the region, and 24 pixels or more away from it."""
    far = np.ones(MASK.shape, bool)
    far[16:114, 26:144] = False
    return [-10 * np.log10(np.mean((decoded[at] / 255.0 - PHOTO[at] / 255.0) ** 2)) for at in (MASK > 0, far)]


def test_a_region_gets_the_bits_and_the_background_saves_them(model):
    low, high = model.encode(PHOTO, 10), model.encode(PHOTO, 95)
    mixed = model.encode(PHOTO, 10, mask=MASK, region_quality=95)
    (low_in, low_out), (high_in, high_out), (inside, outside) = (
        inside_and_outside(model.decode(file)) for file in (low, high, mixed)
    )
    assert high_in > low_in + 3 and high_out > low_out + 3
    assert abs(inside - high_in) < 0.3 and abs(outside - low_out) < 0.3
    # The region's blocks are 30 of 192; the rest of the file is the background's.
    assert len(low) < len(mixed) < len(low) + 0.4 * (len(high) - len(low))


def test_a_uniform_map_is_the_plain_file(model):
    plain = model.encode(PHOTO, 40)
    header, chunks = bitstream.unpack(model.encode(PHOTO, 40, mask=np.zeros_like(MASK)))
    assert header == bitstream.unpack(plain)[0]
    assert {name: chunks[name] for name in ("z", "y")} == bitstream.unpack(plain)[1]
    np.testing.assert_array_equal(model.decode(bitstream.pack(header, chunks)), model.decode(plain))


def test_every_marked_pixel_is_made_of_marked_blocks():
    levels = regions.from_mask(MASK, 100, 900, 12, 16)
    expected = np.array(
        [
            [MASK[max(16 * i - 8, 0) : 16 * i + 24, max(16 * j - 8, 0) : 16 * j + 24].max(initial=0) for j in range(16)]
            for i in range(12)
        ]
    )
    np.testing.assert_array_equal(levels, np.where(expected == 255, 900, 100))


def test_grey_is_between_and_never_below_the_background():
    mask = np.repeat(np.array([0, 51, 128, 255], np.uint8), 64)[None].repeat(64, 0)
    levels = regions.from_mask(mask, 200, 700, 4, 16)
    assert list(levels[0, [1, 5, 9, 14]]) == [200, 300, 451, 700]
    assert (regions.from_mask(mask, 700, 200, 4, 16) == 700).all()


def test_the_default_is_clearly_above_the_background(model):
    for quality, best in ((40, 650), (90, 1000)):
        header, chunks = bitstream.unpack(model.encode(PHOTO, quality, mask=MASK))
        levels = regions.of_file(header, chunks)
        assert (header.quality, levels.min(), levels.max()) == (10 * quality, 10 * quality, best)


@pytest.mark.parametrize("size", [(1, 1), (17, 65), (64, 64), (65, 33)])
def test_odd_sizes(model, size):
    image, mask = PHOTO[: size[0], : size[1]], np.full(size, 255, np.uint8)
    mask[: size[0] // 2] = 0
    decoded = model.decode(model.encode(image, 20, mask=mask, region_quality=90))
    assert decoded.shape == image.shape


def test_tiles_get_their_part_of_the_map(model, monkeypatch):
    image = data.astronaut()[:321, :400]
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[150:260, 200:390] = 255
    stream = model.encode(image, 20, mask=mask, region_quality=90)
    whole = model.decode(stream)
    monkeypatch.setattr(image_codec, "TILE", 16)
    assert np.abs(model.decode(stream).astype(int) - whole).max() <= 1


def test_a_search_finds_the_background_s_quality(model):
    stream = model.encode(PHOTO, bpp=1.5, mask=MASK, region_quality=90)
    header, chunks = bitstream.unpack(stream)
    assert 1.4 < 8 * len(stream) / MASK.size <= 1.5
    assert header.quality < 900 and regions.of_file(header, chunks).max() == 900


def test_transcoding_keeps_the_regions(model, model_path):
    stream = model.encode(PHOTO, 20, mask=MASK)
    assert transcode(stream, "constriction", modelfile.load(model_path)) == stream


def test_a_map_round_trips_through_bytes():
    levels = np.random.default_rng(0).integers(0, 256, (8, 12)) * 3 + 100
    np.testing.assert_array_equal(regions.unpack(regions.pack(levels), 8, 12), levels)


PALETTE = b"\x01" + np.array([500, 900], "<u2").tobytes()
DAMAGED = {
    "empty": b"",
    "without its indexes": PALETTE,
    "too few indexes": PALETTE + zlib.compress(bytes(95)),
    "too many indexes": PALETTE + zlib.compress(bytes(97)),
    "a bomb": PALETTE + zlib.compress(bytes(1 << 24)),
    "an index beyond the qualities": PALETTE + zlib.compress(bytes([2] * 96)),
    "a quality beyond 1000": b"\x00" + np.array([1001], "<u2").tobytes() + zlib.compress(bytes(96)),
    "cut": (PALETTE + zlib.compress(bytes(96)))[:-3],
    "followed by more": PALETTE + zlib.compress(bytes(96)) + b"x",
    "no zlib stream": PALETTE + bytes(50),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_map_is_refused(model, damage):
    image = PHOTO[:128, :192]
    header, chunks = bitstream.unpack(model.encode(image, 50))
    whole = bitstream.pack(header, {**chunks, "regions": PALETTE + zlib.compress(bytes(96))})
    assert model.decode(whole).shape == image.shape
    with pytest.raises(JndError, match="map of regions is damaged"):
        model.decode(bitstream.pack(header, {**chunks, "regions": DAMAGED[damage]}))


@pytest.mark.parametrize("mask", [MASK[:-1], MASK / 255, np.dstack([MASK] * 3)])
def test_a_mask_that_does_not_fit_is_refused(model, mask):
    with pytest.raises(JndError, match="draw it on the image itself"):
        model.encode(PHOTO, mask=mask)
