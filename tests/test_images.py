from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from jnd_jax.errors import JndError
from jnd_jax.images import (
    Picture,
    as_shown,
    decode_lossless,
    encode_lossless,
    from_chunks,
    read_image,
    to_chunks,
    write_bytes,
    write_image,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(height=11, width=17, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def grey_profile(gamma: int) -> bytes:
    """The smallest ICC profile of a grey device with an integer gamma (ICC.1:2001, 6.3.1.1)."""

    def tag(kind: bytes, body: bytes) -> bytes:
        return kind + bytes(4) + body

    white = tag(b"XYZ ", b"".join(int(v * 65536).to_bytes(4, "big") for v in (0.9642, 1, 0.8249)))
    curve = tag(b"curv", (1).to_bytes(4, "big") + (gamma * 256).to_bytes(2, "big") + bytes(2))
    text = tag(b"desc", (5).to_bytes(4, "big") + b"grey\0" + bytes(79))
    table, body, offset = b"", b"", 128 + 4 + 3 * 12
    for name, data in ((b"wtpt", white), (b"kTRC", curve), (b"desc", text)):
        data += bytes(-len(data) % 4)
        table += name + offset.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body, offset = body + data, offset + len(data)
    header = bytes(4) + bytes(4) + bytes.fromhex("02100000") + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    header += bytes(28) + white[8:]
    header = offset.to_bytes(4, "big") + header[4:].ljust(124, b"\0")
    return header + (3).to_bytes(4, "big") + table + body


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "a camera"
    return block.tobytes().removeprefix(b"Exif\0\0")


def seen(path) -> np.ndarray:
    """What a viewer shows."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".TIFF", ".jpg", ".JPEG"])
def test_pixels_profile_and_opacity_survive(tmp_path, suffix):
    opaque = suffix.lower() in (".jpg", ".jpeg")
    image = np.full((12, 20, 3), (200, 30, 90), np.uint8) if opaque else pixels()
    alpha = None if opaque else pixels(channels=1)[..., 0]
    write_image(tmp_path / f"new/a{suffix}", Picture(image, alpha, SRGB))
    back = read_image(tmp_path / f"new/a{suffix}")
    np.testing.assert_allclose(back.pixels, image, atol=2 if opaque else 0)
    assert back.icc == SRGB
    assert (back.alpha is None) if opaque else (back.alpha == alpha).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tiff"])
def test_an_image_is_shown_as_its_source(tmp_path, source, target, orientation):
    # Four flat quadrants: any wrong rotation or mirroring is far beyond JPEG's error.
    grey = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
    image = grey[..., None].repeat(3, 2)
    file = tmp_path / f"source.{source}"
    Image.fromarray(image).save(file, exif=b"Exif\0\0" + exif(orientation), quality=95, lossless=True)
    write_image(tmp_path / f"target.{target}", read_image(file))
    difference = seen(file).astype(int) - seen(tmp_path / f"target.{target}")
    assert abs(difference).max() <= 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_survives_unchanged(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    write_image(file, Picture(pixels(), exif=exif(6)))
    back = read_image(file)
    assert back.exif == exif(6)
    assert back.pixels.shape == (11, 17, 3)


MODES = {
    "1": lambda image: image.convert("1"),
    "L": lambda image: image.convert("L"),
    "LA": lambda image: image.convert("LA"),
    "P": lambda image: image.quantize(16),
    "RGBA": lambda image: image.convert("RGBA"),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_become_the_rgb_that_is_seen(tmp_path, mode):
    image = MODES[mode](Image.fromarray(pixels()))
    image.save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    seen = image.convert("L" if mode in ("1", "L", "LA") else "RGB")
    np.testing.assert_array_equal(picture.pixels, np.asarray(seen))
    np.testing.assert_array_equal(as_shown(picture), np.asarray(image.convert("RGB")))
    assert picture.alpha is None


def test_transparent_palette_and_colour_keys_become_alpha(tmp_path):
    image = Image.fromarray(pixels()).quantize(16)
    image.save(tmp_path / "palette.png", transparency=3)
    picture = read_image(tmp_path / "palette.png")
    np.testing.assert_array_equal(picture.alpha, np.where(np.asarray(image) == 3, 0, 255))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(grey).save(tmp_path / "key.png", transparency=7)
    picture = read_image(tmp_path / "key.png")
    np.testing.assert_array_equal(picture.alpha, np.where(grey == 7, 0, 255))


def test_grey_keeps_its_own_profile_or_becomes_srgb(tmp_path):
    grey = np.full((4, 4), 128, np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=grey_profile(gamma=1))
    picture = read_image(tmp_path / "a.png")
    assert picture.icc == grey_profile(gamma=1) and (picture.pixels == 128).all()
    write_image(tmp_path / "a.webp", picture)
    picture = read_image(tmp_path / "a.webp")
    assert picture.icc is None
    # Half the light is 188 in sRGB.
    np.testing.assert_allclose(picture.pixels, 188, atol=1)


def tiff(array, **options):
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


DEEP = np.random.default_rng(0).integers(0, 65536, (8, 9, 4), dtype=np.uint16)


def deep_files():
    """Name, file, and the samples in it."""
    imagecodecs = pytest.importorskip("imagecodecs")
    colour, grey = np.ascontiguousarray(DEEP[..., :3]), np.ascontiguousarray(DEEP[..., 0])
    yield "rgb.png", imagecodecs.png_encode(colour), colour
    yield "grey.png", imagecodecs.png_encode(grey), grey
    yield "rgba.png", imagecodecs.png_encode(DEEP), DEEP
    yield "la.png", imagecodecs.png_encode(np.ascontiguousarray(DEEP[..., :2])), DEEP[..., :2]
    for order in "<>":
        yield "rgb.tif", tiff(colour, photometric="rgb", byteorder=order), colour
        yield "rgba.tif", tiff(DEEP, photometric="rgb", extrasamples=["unassalpha"], byteorder=order), DEEP
        yield "grey.tif", tiff(grey, byteorder=order), grey
        yield "lzw.tif", tiff(colour, photometric="rgb", compression="lzw", predictor=True, byteorder=order), colour
    yield "inverse.tif", tiff(65535 - grey, photometric="miniswhite"), grey
    yield "rgb.ppm", b"P6\n9 8\n65535\n" + colour.byteswap().tobytes(), colour
    yield "grey.pgm", b"P5\n# a comment\n9 8\n65535\n" + grey.byteswap().tobytes(), grey
    yield "ten-bit.pgm", b"P5\n9 8\n1023\n" + (grey >> 6).byteswap().tobytes(), ((grey >> 6) * (65535 / 1023)).round()


def test_sixteen_bits_are_read_in_full(tmp_path):
    for name, data, samples in deep_files():
        (tmp_path / name).write_bytes(data)
        picture = read_image(tmp_path / name)
        assert picture.pixels.dtype == np.uint16, name
        found = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
        np.testing.assert_array_equal(found, samples, name)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_written_in_full(tmp_path, suffix, channels):
    imagecodecs = pytest.importorskip("imagecodecs")
    colours = DEEP[..., 0] if channels < 3 else DEEP[..., :3]
    alpha = None if channels % 2 else DEEP[..., 3]
    write_image(tmp_path / f"a.{suffix}", Picture(colours, alpha, density=(11811, 11811), xmp=b"<x/>"))
    data = (tmp_path / f"a.{suffix}").read_bytes()
    decode = imagecodecs.png_decode if suffix == "png" else lambda data: tifffile_read(data)
    expected = colours if alpha is None else np.dstack([colours, alpha])
    if (suffix, channels) == ("tiff", 2):  # which few programs read as grey
        expected = expected[..., [0, 0, 0, 1]]
    np.testing.assert_array_equal(decode(data), expected)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert round(image.info["dpi"][0]) == 300


def tifffile_read(data):
    return pytest.importorskip("tifffile").imread(io.BytesIO(data))


def unreadable_files():
    imagecodecs = pytest.importorskip("imagecodecs")
    colour = np.ascontiguousarray(DEEP[..., :3])
    yield "float.tif", tiff(colour[..., 0].astype(np.float32))
    yield "int.tif", tiff(colour[..., 0].astype(np.int32))
    yield "signed.tif", tiff(colour[..., 0].astype(np.int16))
    yield "planar.tif", tiff(colour.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    yield "rgb.jp2", imagecodecs.jpeg2k_encode(colour)
    yield "grey.jp2", imagecodecs.jpeg2k_encode(colour[..., 0].copy())
    if features.check("avif"):
        yield "ten-bit.avif", imagecodecs.avif_encode(colour >> 6, bitspersample=10)
        yield "twelve-bit.avif", imagecodecs.avif_encode(colour >> 4, bitspersample=12)


def test_more_than_8_bits_that_are_not_read_in_full_are_refused(tmp_path):
    for name, data in unreadable_files():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(JndError, match="convert the image to a PNG or TIFF of 8 or 16 bits"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["ppm", "jp2", "avif", "bmp", "gif", "tif"])
def test_other_8_bit_formats_are_read(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif") or suffix == "jp2" and not features.check("jpg_2000"):
        pytest.skip(f"this Pillow has no {suffix}")
    image = np.full((16, 16, 3), 100, np.uint8)
    Image.fromarray(image).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}").pixels, image, atol=2)


def frames(count):
    return [Image.fromarray(pixels(8, 8 + i)[:, :8]) for i in range(count)]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_animations_and_multi_page_files_are_refused(tmp_path, name):
    first, *rest = frames(3)
    first.save(tmp_path / name, save_all=True, append_images=rest)
    with pytest.raises(JndError, match="extract the 3 frames"):
        read_image(tmp_path / name)


def test_the_photo_in_a_multi_picture_jpeg_is_read(tmp_path):
    first, *rest = frames(2)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=rest, quality=95, subsampling=0)
    assert abs(read_image(tmp_path / "a.mpo").pixels.astype(int) - np.asarray(first)).mean() < 8


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tif"), ("LAB", "tif")])
def test_other_colour_models_are_refused(tmp_path, mode, suffix):
    Image.new(mode, (8, 8)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(JndError, match=f"{mode}, which is not coded: convert the image to RGB first"):
        read_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif"])
def test_damaged_images_are_one_clear_error(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels(40, 40)).save(file)
    data = file.read_bytes()
    for length in (0, 3, 20, len(data) // 2, len(data) * 9 // 10):
        file.write_bytes(data[:length])
        with pytest.raises(JndError):
            read_image(file)
    rng = np.random.default_rng(0)
    for _ in range(50):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 4):
            damaged[position] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            picture = read_image(file)
        except JndError:
            continue
        assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[2] == 3


def test_images_too_large_are_refused_before_they_are_decoded(tmp_path):
    # Headers of 70000x1 and 60000x60000 pixels on a small PNG.
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    for width, height in ((70000, 1), (60000, 60000)):
        data = bytearray(buffer.getvalue())
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(JndError, match="cut the image into parts"):
            read_image(tmp_path / "a.png")


def test_what_is_missing_or_no_image(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(JndError, match="give an image"):
        read_image(tmp_path / "a.png")


def test_what_a_format_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(JndError, match="one of the suffixes"):
        write_image(tmp_path / "a.xyz", Picture(pixels()))
    with pytest.raises(JndError, match="transparency"):
        write_image(tmp_path / "a.jpg", Picture(pixels(), alpha=np.zeros((11, 17), np.uint8)))
    with pytest.raises(JndError, match="another format"):
        write_image(tmp_path / "a.webp", Picture(np.zeros((1, 20000, 3), np.uint8)))
    with pytest.raises(JndError, match="another format"):
        write_image(tmp_path / "a.jpg", Picture(pixels(), exif=bytes(70000)))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bytes(tmp_path / "a", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    "alpha",
    [
        np.zeros((1, 1), np.uint8),
        pixels(9, 33, 1)[..., 0],
        np.tri(64, 80, dtype=np.uint8) * 255,
        np.zeros((2, 20000), np.uint8),
    ],
)
def test_alpha_is_lossless(alpha):
    np.testing.assert_array_equal(decode_lossless(encode_lossless(alpha), alpha.shape, "alpha channel"), alpha)


def test_alpha_that_does_not_fit_is_an_error():
    data = encode_lossless(np.zeros((4, 6), np.uint8))
    with pytest.raises(JndError, match="size"):
        decode_lossless(data, (6, 4), "alpha channel")
    for damaged in (b"", b"text", data[:-20]):
        with pytest.raises(JndError, match="alpha channel is damaged"):
            decode_lossless(damaged, (4, 6), "alpha channel")


def test_chunks_hold_all_but_the_pixels():
    assert to_chunks(Picture(pixels())) == {}
    picture = Picture(pixels(), pixels(channels=1)[..., 0], SRGB, exif(3))
    back = from_chunks(picture.pixels, to_chunks(picture))
    np.testing.assert_array_equal(back.alpha, picture.alpha)
    assert (back.icc, back.exif) == (SRGB, exif(3))
