from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from jnd_jax.data import cache
from jnd_jax.errors import JndError
from jnd_jax.images import read_rgb


def write(path, value, shape=(10, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(path)


def test_images_come_back_exactly_in_the_order_of_their_names(tmp_path):
    rng = np.random.default_rng(0)
    images = {f"sub{i % 2}/photo{i}.png": rng.integers(0, 256, (8 + i, 9, 3), np.uint8) for i in range(4)}
    for name, image in images.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / name)
    loaded = cache.load_images(tmp_path / "photos", tmp_path / "cache")
    assert [name.removeprefix("photos/") for name in loaded.names] == sorted(images)
    for i, name in enumerate(sorted(images)):
        np.testing.assert_array_equal(loaded[i], images[name])


def test_broken_files_are_named_and_left_out(tmp_path, caplog):
    write(tmp_path / "photos/a.png", 1)
    write(tmp_path / "photos/b.png", 2)
    whole = (tmp_path / "photos/a.png").read_bytes()
    (tmp_path / "photos/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos/empty.jpg").touch()
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        loaded = cache.load_images(tmp_path / "photos", tmp_path / "cache")
        assert len(loaded) == 2
        assert loaded.broken == ("photos/cut.png", "photos/empty.jpg")
        assert "2 of 4" in caplog.text and "cut.png" in caplog.text


def test_the_cache_follows_its_source_and_leaves_no_old_copy(tmp_path):
    write(tmp_path / "photos/a.png", 1)
    assert cache.load_images(tmp_path / "photos", tmp_path / "cache")[0][0, 0, 0] == 1
    write(tmp_path / "photos/a.png", 7)
    os.utime(tmp_path / "photos/a.png", (1, 1))
    assert cache.load_images(tmp_path / "photos", tmp_path / "cache")[0][0, 0, 0] == 7
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_second_load_decodes_nothing(tmp_path, monkeypatch):
    write(tmp_path / "photos/a.png", 1)
    cache.load_images(tmp_path / "photos", tmp_path / "cache")
    monkeypatch.setattr(cache, "read_rgb", lambda path: pytest.fail("decoded again"))
    assert len(cache.load_images(tmp_path / "photos", tmp_path / "cache")) == 1


def test_several_folders_are_one_set(tmp_path):
    write(tmp_path / "one/a.png", 1)
    write(tmp_path / "two/a.png", 2)
    loaded = cache.load_images([tmp_path / "one", tmp_path / "two"], tmp_path / "cache")
    assert loaded.names == ("one/a.png", "two/a.png")


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8040, np.uint16)).save(tmp_path / "deep.png")
    assert read_rgb(tmp_path / "deep.png")[0, 0].tolist() == [128, 128, 128]


def test_no_folder_and_no_image_say_what_to_do(tmp_path):
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(JndError, match="data.path"):
            cache.load_images(folder, tmp_path / "cache")


def test_the_default_source_is_photos_that_need_no_download(tmp_path):
    loaded = cache.load_images(None, tmp_path)
    assert len(loaded) >= 4 and all(min(shape) >= 256 for shape in loaded.shapes)


def test_every_nth_name_validates_and_none_trains_too(tmp_path):
    for i in range(25):
        write(tmp_path / f"photos/{i:02d}.png", i)
    loaded = cache.load_images(tmp_path / "photos", tmp_path / "cache")
    train, validation = cache.split(loaded, 10)
    assert [name[-6:-4] for name in validation.names] == ["09", "19"]
    assert sorted(train.names + validation.names) == sorted(loaded.names)
    assert validation[1][0, 0, 0] == 19
    for every in (0, 1, 26):
        assert all(part.names == loaded.names for part in cache.split(loaded, every))


def test_pairs_are_made_by_name_not_by_order(tmp_path):
    for i in range(4):
        write(tmp_path / f"Ref/{i}.png", i)
    for i in (1, 3):
        write(tmp_path / f"JND1/{i}.png", 100 + i)
    write(tmp_path / "JND1/0.png", 100, (5, 5))  # another size: no pair
    reference, jnd = cache.pair_by_name(*(cache.load_images(tmp_path / d, tmp_path / "cache") for d in ("Ref", "JND1")))
    assert [(int(reference[i][0, 0, 0]), int(jnd[i][0, 0, 0])) for i in range(len(reference))] == [(1, 101), (3, 103)]


def test_a_name_that_pairs_with_two_is_refused(tmp_path):
    for name in ("Ref/a.png", "JND1/a.png", "JND1/a.bmp"):
        write(tmp_path / name, 1)
    with pytest.raises(JndError, match="suffix alone"):
        cache.pair_by_name(*(cache.load_images(tmp_path / d, tmp_path / "cache") for d in ("Ref", "JND1")))


def test_images_of_one_name_in_two_sets_keep_their_own_partners(tmp_path):
    for part, offset in (("Ref", 0), ("JND1", 100)):
        for i, name in enumerate("ab"):
            write(tmp_path / f"set-{name}/{part}/0001.png", offset + i)
    load = lambda part: cache.load_images([tmp_path / f"set-{name}/{part}" for name in "ab"], tmp_path / "cache")
    reference, jnd = cache.pair_by_name(load("Ref"), load("JND1"))
    assert [(int(reference[i][0, 0, 0]), int(jnd[i][0, 0, 0])) for i in range(2)] == [(0, 100), (1, 101)]
    with pytest.raises(JndError, match="different numbers of folders"):
        cache.pair_by_name(load("Ref"), cache.load_images(tmp_path / "set-a/JND1", tmp_path / "cache"))
