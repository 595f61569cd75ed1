from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jnd_jax.data.cache import ImageSet
from jnd_jax.data.pipeline import Augmentation, Examples, batch_at, batches, halve_scale, saturated
from jnd_jax.errors import JndError


def image_set(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [h * w * 3 for h, w in shapes]
    offsets = tuple(int(v) for v in np.cumsum([0] + sizes[:-1]))
    samples = rng.integers(0, 256, sum(sizes), np.uint8)
    return ImageSet(tuple(f"{i}.png" for i in range(len(shapes))), (0,) * len(shapes), shapes, offsets, samples)


PHOTOS = image_set((64, 96), (48, 48), (128, 64), (96, 96))


def test_a_batch_is_a_function_of_seed_and_position():
    a, b = (batch_at(Examples(PHOTOS, 32, seed=3), 40, 8) for _ in range(2))
    other = batch_at(Examples(PHOTOS, 32, seed=4), 40, 8)
    np.testing.assert_array_equal(a["image"], b["image"])
    assert a["image"].shape == (8, 32, 32, 3) and a["image"].dtype == np.uint8
    assert a["index"].tolist() == list(range(40, 48))
    assert not np.array_equal(a["image"], other["image"])


def test_the_prefetched_stream_is_the_same_batches_from_any_start():
    examples = Examples(PHOTOS, 32, seed=1)
    stream = list(batches(examples, 4, first_example=20, count=6, threads=3))
    assert len(stream) == 6
    for k, batch in enumerate(stream):
        np.testing.assert_array_equal(batch["image"], batch_at(examples, 20 + 4 * k, 4)["image"])


def test_processes_share_out_the_batch_of_one():
    examples = Examples(PHOTOS, 32, seed=1)
    whole = batch_at(examples, 16, 8)
    parts = [batch_at(examples, 16, 8, process, 4) for process in range(4)]
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(JndError, match="data.batch"):
        batch_at(Examples(PHOTOS, 32, seed=1), 0, 8, 0, 3)


def test_two_processes_meet_no_example_twice_in_an_epoch_and_all_of_them():
    examples = Examples(PHOTOS, 16, seed=5)
    length = len(examples.visits)
    steps = length // 4
    for epoch in range(2):
        seen = []
        for step in range(steps):
            for process in range(2):
                start = epoch * length + 4 * step + 2 * process
                seen += [examples.visit(i) for i in (start, start + 1)]
        seen += [examples.visit(i) for i in range(epoch * length + 4 * steps, (epoch + 1) * length)]
        assert {visit[0] for visit in seen} == {epoch}
        assert len(seen) == len(set(seen)) == length


def test_epochs_come_in_different_orders():
    examples = Examples(PHOTOS, 16, seed=5)
    length = len(examples.visits)
    orders = [[examples.visit(epoch * length + i)[1:] for i in range(length)] for epoch in range(2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_images_are_visited_in_proportion_to_their_area():
    counts = np.bincount(Examples(PHOTOS, 16, seed=0).visits[:, 0])
    assert counts.tolist() == [h * w // 256 for h, w in PHOTOS.shapes]


def test_crops_are_windows_of_their_image_flipped_or_not():
    examples = Examples(PHOTOS, 32, seed=2)
    for i in range(6):
        source = PHOTOS[examples.visit(i)[1]]
        windows = np.lib.stride_tricks.sliding_window_view(source, (32, 32, 3))[:, :, 0]
        crop = examples[i]["image"]
        assert any((windows == candidate).all((2, 3, 4)).any() for candidate in (crop, crop[:, ::-1]))


def test_a_pair_shows_the_same_window_in_both_images():
    jnd = dataclasses.replace(PHOTOS, samples=255 - PHOTOS.samples)
    batch = batch_at(Examples(PHOTOS, 32, 7, Augmentation(0.5, True, 1.0), jnd), 0, 16)
    np.testing.assert_array_equal(batch["jnd"], 255 - batch["image"])


def test_halved_scale_is_the_mean_of_four():
    patch = np.array([[0, 1, 10, 20], [2, 3, 30, 40]], np.uint8)[..., None].repeat(3, -1)
    assert halve_scale(patch)[..., 0].tolist() == [[2, 25]]
    assert halve_scale(np.full((2, 2, 3), 255, np.uint8)).max() == 255


def test_stronger_colours_keep_grey_and_luma():
    patch = np.array([[[100, 100, 100], [120, 100, 90]]], np.uint8)
    (grey, colour), luma = saturated(patch, 2.0)[0].astype(int), np.array([0.299, 0.587, 0.114])
    assert grey.tolist() == [100, 100, 100]
    np.testing.assert_allclose(colour @ luma, patch[0, 1] @ luma, atol=1)
    assert colour[0] - colour[2] == 2 * (120 - 90)
    plain, always = (Examples(PHOTOS, 32, 0, Augmentation(saturate=chance))[1]["image"] for chance in (0.0, 1.0))
    assert (np.ptp(always, -1) >= np.ptp(plain, -1) - 1).all() and (always != plain).any()


def test_drawing_changes_crops_in_a_way_that_repeats():
    plain, always = (Examples(PHOTOS, 32, 0, Augmentation(draw=chance)) for chance in (0.0, 1.0))
    crops = [always[i]["image"] for i in range(16)]
    assert all(crop.shape == (32, 32, 3) and crop.dtype == np.uint8 for crop in crops)
    assert sum((crop != plain[i]["image"]).any() for i, crop in enumerate(crops)) >= 12  # A shape may lie outside.
    np.testing.assert_array_equal(crops[3], always[3]["image"])
    jnd = dataclasses.replace(PHOTOS, samples=255 - PHOTOS.samples)
    pair = Examples(PHOTOS, 32, 0, Augmentation(draw=1.0), jnd)[0]
    np.testing.assert_array_equal(pair["jnd"], 255 - pair["image"])


def test_downscaling_needs_the_pixels_for_it():
    small, large = image_set((48, 48)), image_set((64, 64))
    always = Augmentation(flip=0.0, downscale=1.0)
    assert Examples(small, 32, 0, always)[0]["image"].shape == (32, 32, 3)
    np.testing.assert_array_equal(Examples(large, 32, 0, always)[0]["image"], halve_scale(large[0]))


def test_an_image_smaller_than_the_crop_is_mirrored_up():
    crop = Examples(image_set((20, 24)), 32, 0, Augmentation(flip=0.0))[0]["image"]
    np.testing.assert_array_equal(crop[20:], crop[19:7:-1])
