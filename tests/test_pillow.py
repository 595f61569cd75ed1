"""The Pillow plugin, as programs that know nothing of this package use it."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import jnd_jax
import jnd_jax.pillow
from jnd_jax import zoo

PHOTO = zoo.FOLDER / "chelsea.png"


@pytest.fixture(scope="module", autouse=True)
def _register(tiny_model):
    jnd_jax.pillow.register_pillow(str(tiny_model))


@pytest.fixture
def save(tiny_model):
    """The bytes that `Image.save` writes with the small model."""

    def saved(image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "JND", model=str(tiny_model), **options)
        return buffer.getvalue()

    return saved


def photo(mode="RGB"):
    return Image.open(PHOTO).crop((40, 60, 140, 133)).convert(mode)


def test_open_finds_the_format_by_its_magic_bytes_and_save_by_the_suffix(tmp_path, tiny_model):
    path, nameless = tmp_path / "photo.jnd", tmp_path / "nameless"
    photo().save(path, quality=70, model=str(tiny_model))
    shutil.copy(path, nameless)
    with Image.open(nameless) as image:
        assert (image.format, image.size, image.mode) == ("JND", (100, 73), "RGB")
        assert image.get_format_mimetype() == Image.MIME["JND"] == "image/vnd.jnd"
        decoded = np.asarray(image)
    assert np.array_equal(decoded, jnd_jax.load(str(tiny_model)).decode(path.read_bytes()))


def test_open_and_verify_import_neither_jax_nor_numpy(tmp_path, save):
    path = tmp_path / "photo.jnd"
    path.write_bytes(save(photo("RGBA")))
    code = (
        "import sys, jnd_jax.pillow; from PIL import Image\n"
        f"image = Image.open({str(path)!r}); assert image.size == (100, 73), image.size; image.verify()\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_quality_and_targets_reach_the_encoder(tmp_path, save):
    assert len(save(photo(), quality=10)) < len(save(photo(), quality=80)) < len(save(photo(), quality=100.0))
    assert len(save(photo(), bpp=2.0)) <= 2.0 * 100 * 73 / 8
    path = tmp_path / "none.jnd"
    with pytest.raises(ValueError, match="0 to 100"):
        photo().save(path, quality=101)
    assert not path.exists()


def test_profile_exif_and_alpha_survive_as_with_other_formats(save):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    source = photo("RGBA")
    source.putalpha(Image.linear_gradient("L").resize(source.size))
    with Image.open(io.BytesIO(save(source, icc_profile=icc, exif=exif, dpi=(300, 150)))) as image:
        assert image.mode == "RGBA"
        assert image.info["icc_profile"] == icc
        assert np.allclose(image.info["dpi"], (300, 150), atol=0.02)
        assert image.getexif()[ExifTags.Base.Orientation] == 6
        assert np.array_equal(image.getchannel("A"), source.getchannel("A"))
        assert ImageOps.exif_transpose(image).size == (73, 100)
        # As Pillow's AVIF plugin: the profile goes on by itself, EXIF does not.
        again = Image.open(io.BytesIO(save(image)))
    assert again.info == {"icc_profile": icc, "dpi": image.info["dpi"]}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "YCbCr"])
def test_modes_that_8_bit_rgb_holds_are_saved(save, mode):
    source = photo(mode)
    image = Image.open(io.BytesIO(save(source, quality=100)))
    assert np.array_equal(image.convert("RGB"), Image.open(io.BytesIO(save(source.convert("RGB"), quality=100))))


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "LAB"])
def test_modes_that_it_does_not_hold_are_refused(save, mode):
    with pytest.raises(OSError, match=f"cannot write mode {mode} as JND"):
        save(Image.new(mode, (8, 8)))


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_transparent_colour_is_saved(save, mode):
    image = Image.new(mode, (20, 20), 200)
    image.paste(7, (0, 0, 10, 20))
    image.info["transparency"] = 7
    alpha = Image.open(io.BytesIO(save(image))).getchannel("A")
    assert alpha.getcolors() == [(200, 0), (200, 255)] and alpha.getpixel((0, 0)) == 0


def test_damage_is_met_where_pillow_meets_it(save):
    data = save(photo())
    for header in (data[:20], data[:16] + b"\1" + data[17:]):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(header))
    for damaged in (data[:-1], data + b"\0", data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]):
        assert Image.open(io.BytesIO(damaged)).size == (100, 73)
        with pytest.raises(OSError, match="copy or download it again"):
            Image.open(io.BytesIO(damaged)).verify()
        with pytest.raises(OSError, match="copy or download it again"):
            Image.open(io.BytesIO(damaged)).load()


def test_truncated_images_are_loaded_where_pillow_is_told_to(save, monkeypatch):
    clear = photo()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    whole = save(clear)
    cut = whole[: len(whole) // 2]  # inside y, before the opacity
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in (cut, whole):
        image = Image.open(io.BytesIO(data))
        image.load()
        assert (image.size, image.mode) == ((100, 73), "RGBA")
    small = Image.open(io.BytesIO(cut))
    small.draft("RGB", (25, 18))
    assert np.asarray(small).shape == (19, 25, 4)
    with pytest.raises(OSError, match="damaged"):
        Image.open(io.BytesIO(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])).load()


def test_a_newer_version_is_named_in_a_warning(save):
    data = save(photo())
    with pytest.warns(UserWarning, match="newer format"), pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data[:4] + b"\x63" + data[5:]))


def test_a_file_of_an_unknown_model_opens_but_does_not_load(save, monkeypatch):
    data = save(photo())
    monkeypatch.setattr(jnd_jax.pillow, "_models", {})
    jnd_jax.pillow._model.cache_clear()
    with pytest.raises(OSError, match="is not installed"):
        Image.open(io.BytesIO(data)).load()


def test_an_opened_image_can_be_pickled_and_copied(save):
    image = Image.open(io.BytesIO(save(photo())))
    again = pickle.loads(pickle.dumps(image))
    assert np.array_equal(again, image) and np.array_equal(image.copy(), image)


def test_draft_and_thumbnail_decode_a_preview(save):
    source = photo().resize((770, 500))
    data = save(source, quality=90)
    image = Image.open(io.BytesIO(data))
    assert image.draft("RGB", (90, 50)) == ("RGB", (0, 0, 96.25, 62.5))
    assert image.size == (97, 63)
    image.load()
    assert np.abs(np.asarray(image, float) - np.asarray(source.reduce(8), float)).mean() < 6
    image = Image.open(io.BytesIO(data))
    image.thumbnail((64, 64))
    assert image.size == (64, 42)
    # What is loaded already is scaled as it is.
    image.thumbnail((30, 20))
    assert np.abs(np.asarray(image, float) - np.asarray(source.resize(image.size), float)).mean() < 12
    # Without a smaller preview that suffices, the image is whole.
    image = Image.open(io.BytesIO(data))
    image.draft(None, (500, 500))
    assert np.array_equal(image, Image.open(io.BytesIO(data)))


def mean_of(arguments) -> float:
    path, model = arguments
    jnd_jax.pillow.register_pillow(model)
    with Image.open(path) as image:
        return float(np.mean(np.asarray(image)))


def test_spawned_processes_read_files(tmp_path, tiny_model):
    path = tmp_path / "photo.jnd"
    photo().save(path, model=str(tiny_model))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(mean_of, [(str(path), str(tiny_model))])
    assert there == [mean_of((str(path), str(tiny_model)))]
