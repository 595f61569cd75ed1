"""Parts of images are what the whole image has there."""

from __future__ import annotations

import numpy as np
import pytest

import jnd_jax
from jnd_jax import bitstream, images, zoo
from jnd_jax.errors import JndError


@pytest.fixture(scope="module")
def photo():
    return images.read_image(zoo.FOLDER / "chelsea.png").pixels[:300, :430]


def close(part, whole, crop):
    left, top, width, height = crop
    there = whole[top : top + height, left : left + width]
    assert part.shape == there.shape and part.dtype == there.dtype
    difference = np.abs(part.astype(int) - there)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


CROPS = [
    (0, 0, 430, 300),
    (200, 130, 17, 3),
    (429, 299, 1, 1),
    (0, 250, 40, 50),
    (300, 0, 130, 64),
    (130, 90, 200, 209),
]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("region", [False, True])
def test_a_part_is_that_of_the_whole(photo, golden_model, crop, region):
    codec = jnd_jax.load(str(golden_model))
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[100:200, 100:300] = 255
    data = codec.encode(photo, 40, **({"mask": mask, "region_quality": 90} if region else {}))
    close(codec.decode(data, crop), codec.decode(data), crop)


def test_parts_of_an_image_of_several_tiles(golden_model):
    picture = np.tile(images.read_image(zoo.FOLDER / "chelsea.png").pixels, (1, 3, 1))[:200]
    codec = jnd_jax.load(str(golden_model))
    data = codec.encode(picture, 40)
    whole = codec.decode(data)
    for crop in ((1200, 100, 153, 100), (990, 0, 60, 60), (10, 20, 30, 40)):
        close(codec.decode(data, crop), whole, crop)


def test_a_part_of_a_bounded_image_keeps_the_bound_and_its_opacity(photo, golden_model):
    codec = jnd_jax.load(str(golden_model))
    alpha = (1 + np.arange(300 * 430) % 255).astype(np.uint8).reshape(300, 430)
    extras = images.to_chunks(images.Picture(photo, alpha))
    data = codec.encode(photo, policy="medical", extras=extras)
    crop = images.Crop(100, 50, 90, 70, 430, 300)
    part = codec.decode(data, (100, 50, 90, 70))
    assert np.abs(part.astype(int) - crop.of(photo)).max() <= 4
    chunks = bitstream.unpack(data)[1]
    assert np.array_equal(images.from_chunks(part, chunks, crop).alpha, crop.of(alpha))


@pytest.mark.parametrize("crop", [(0, 0, 431, 1), (-1, 0, 5, 5), (0, 300, 1, 1), (0, 0, 0, 5)])
def test_a_part_outside_the_image_is_refused(photo, golden_model, crop):
    codec = jnd_jax.load(str(golden_model))
    with pytest.raises(JndError, match="does not lie in the image of 430x300"):
        codec.decode(codec.encode(photo, 40), crop)
