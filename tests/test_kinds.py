"""Kinds of pictures that were once lost, each by what it is, made here: colours, transparency, orientation, metadata."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

import jnd_jax
from jnd_jax import bitstream, images, zoo
from jnd_jax.cli import main
from jnd_jax.codec import regions
from jnd_jax.errors import JndError
from jnd_jax.formats import exif, icc, png
from jnd_jax.images import Picture, as_shown, format_image, parse_image, smooth_hidden

from .test_images import SRGB, grey_profile

_X, _Y = np.meshgrid(np.linspace(0, 255, 32), np.linspace(255, 0, 24))
RAMP = np.stack([_X, _Y, np.full_like(_X, 90)], -1).astype(np.uint8)


def saved(image, kind, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk_bytes(**chunks: bytes) -> bytes:
    parts = [
        struct.pack(">I", len(content))
        + kind.encode()
        + content
        + struct.pack(">I", zlib.crc32(kind.encode() + content))
        for kind, content in chunks.items()
    ]
    return b"".join(parts)


def with_chunks(data: bytes, **chunks: bytes) -> bytes:
    """A PNG with further chunks after its header."""
    return data[:33] + chunk_bytes(**chunks) + data[33:]


def in_srgb(picture: Picture) -> np.ndarray:
    """What a colour-managed viewer shows."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc or SRGB))
    return np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(picture.pixels), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_grey_profile_on_colours_is_dropped_and_named(kind):
    picture = parse_image(saved(RAMP, kind, icc_profile=grey_profile(2)))
    assert np.ptp(picture.pixels.astype(int), axis=2).max() > 200
    assert picture.icc is None and "GRAY" in picture.lost[0]


def test_a_grey_profile_on_a_palette_is_dropped():
    picture = parse_image(saved(Image.fromarray(RAMP).quantize(64), "PNG", icc_profile=grey_profile(2)))
    assert np.ptp(picture.pixels.astype(int), axis=2).max() > 200 and picture.icc is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_with_a_profile_of_colours_keeps_both(kind):
    picture = parse_image(saved(RAMP[..., 0], kind, icc_profile=SRGB))
    assert picture.icc == SRGB and picture.pixels.shape == RAMP.shape and not np.ptp(picture.pixels, axis=2).any()


def test_a_profile_goes_before_what_else_says_colours():
    stated = with_chunks(saved(RAMP, "PNG", icc_profile=SRGB), gAMA=struct.pack(">I", 100000), sRGB=b"\0")
    assert parse_image(stated).icc == SRGB


def test_a_damaged_profile_leaves_the_image_whole():
    for data in (
        saved(RAMP, "PNG", icc_profile=SRGB[:100]),
        saved(RAMP, "JPEG", icc_profile=b"no profile", quality=95),
        with_chunks(saved(RAMP, "PNG"), iCCP=b"name\0\0no zlib stream"),
        saved(RAMP, "PNG", icc_profile=SRGB).replace(b"iCCPICC", b"iCCPIKK"),  # its checksum is now wrong
    ):
        picture = parse_image(data)
        assert picture.icc is None and len(picture.lost) == 1
        np.testing.assert_allclose(picture.pixels, RAMP, atol=0 if data[:1] == b"\x89" else 40)


def test_a_profile_as_large_as_an_image_is_left_out():
    picture = parse_image(saved(RAMP, "PNG", icc_profile=SRGB + bytes(20 << 20)))
    assert picture.icc is None and "too large" in picture.lost[0]
    assert (picture.pixels == RAMP).all()


def test_linear_light_without_a_profile_looks_the_same():
    picture = parse_image(with_chunks(saved(RAMP, "PNG"), gAMA=struct.pack(">I", 100000)))
    light = RAMP / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(in_srgb(picture), expected, atol=2)


@pytest.mark.parametrize("stated", ["cHRM", "cICP"])
def test_wide_primaries_without_a_profile_look_the_same(stated):
    corners = struct.pack(">8I", *(round(v * 1e5) for v in icc.DISPLAY_P3))
    chunk = {"cHRM": corners} if stated == "cHRM" else {"cICP": bytes([12, 13, 0, 1])}
    flat = np.full((8, 8, 3), (160, 120, 110), np.uint8)
    picture = parse_image(with_chunks(saved(flat, "PNG"), **chunk))
    # Display P3 160, 120, 110 in sRGB.
    np.testing.assert_allclose(in_srgb(picture)[0, 0], (166, 119, 108), atol=1)
    for suffix in (".png", ".tiff", ".webp", ".jpg"):
        assert parse_image(format_image(picture, suffix)).icc == picture.icc


def test_plain_srgb_needs_no_profile():
    corners = struct.pack(">8I", *(round(v * 1e5) for v in icc.BT709))
    for chunks in (
        {"sRGB": b"\0"},
        {"gAMA": struct.pack(">I", 45455), "cHRM": corners},
        {"cICP": bytes([1, 13, 0, 1])},
    ):
        assert parse_image(with_chunks(saved(RAMP, "PNG"), **chunks)).icc is None


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_with_a_sentence(transfer):
    with pytest.raises(JndError, match="HDR.*convert it to sRGB"):
        parse_image(with_chunks(saved(RAMP, "PNG"), cICP=bytes([9, transfer, 0, 1])))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_transparent_grey_of_few_bits(bits):
    levels = np.arange(8, 16, dtype=np.uint8) % (1 << bits)
    row = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).ravel().astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)
    chunks = {"IHDR": header, "tRNS": struct.pack(">H", (1 << bits) - 1), "IDAT": zlib.compress((b"\0" + row) * 8)}
    picture = parse_image(png.SIGNATURE + chunk_bytes(**chunks, IEND=b""))
    np.testing.assert_array_equal(picture.alpha[0], np.where(levels == (1 << bits) - 1, 0, 255))


def test_a_wrong_checksum_of_pixels_is_refused():
    data = bytearray(saved(RAMP, "PNG"))
    place = data.index(b"IDAT")
    data[place + 4 + struct.unpack(">I", data[place - 4 : place])[0]] ^= 1
    with pytest.raises(JndError, match="wrong checksum"):
        parse_image(bytes(data))


def test_hidden_pixels_cost_few_bits_and_do_not_count(tiny_model):
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(RAMP, 4, 0), 4, 1)
    alpha = np.zeros(image.shape[:2], np.uint8)
    alpha[20:70, 20:90] = 255
    noisy = np.where(alpha[..., None] > 0, image, rng.integers(0, 256, image.shape, dtype=np.uint8))
    smooth = smooth_hidden(noisy, alpha)
    assert (smooth[alpha > 0] == image[alpha > 0]).all() and abs(np.diff(smooth.astype(int), axis=0)).max() < 80
    model, extras = jnd_jax.load(tiny_model), images.to_chunks(Picture(noisy, alpha))
    hidden, bare = model.encode(noisy, 50, extras=extras), model.encode(noisy, 50)
    assert len(hidden) < len(bare) / 2
    reached = model.encode(noisy, target="psnr=25", extras=extras)
    error = (model.decode(reached).astype(float) - noisy)[alpha > 0]
    assert 10 * np.log10(255**2 / np.mean(error**2)) >= 25


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 7])
def test_a_region_is_where_the_mask_shows_it(tmp_path, tiny_model, orientation):
    block = Image.Exif()
    block[exif.ORIENTATION] = orientation
    Image.fromarray(np.resize(RAMP, (96, 160, 3))).save(tmp_path / "a.png", exif=block)
    mask = np.zeros(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")).size[::-1], np.uint8)
    mask[:40, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    region = ["--region", str(tmp_path / "mask.png"), "--region-quality", "95", "--model", str(tiny_model)]
    assert main(["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.jnd"), "--quality", "5", *region]) == 0
    levels = regions.of_file(*bitstream.unpack((tmp_path / "a.jnd").read_bytes()))[:6, :10]
    np.testing.assert_array_equal(np.argwhere(exif.as_shown(levels, orientation) == 950), np.argwhere(np.ones((3, 3))))


def tags() -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010F], block[0x0106], block[0x011A] = 6, "Maker", 6, 240.0
    block[0x8769], block[0x8825] = {0x9003: "2026:01:02 03:04:05", 0x829A: 0.01}, {1: "N", 2: (1.0, 2.0, 3.0)}
    return block.tobytes()


@pytest.mark.parametrize("source", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_descriptive_tags_survive_and_layout_tags_do_not(source, suffix):
    if source == "TIFF":
        data = format_image(Picture(RAMP, exif=tags().removeprefix(exif.PREFIX)), ".tiff")
    else:
        data = saved(RAMP, source, exif=tags())
    picture = parse_image(data)
    written = format_image(picture, suffix)
    with Image.open(io.BytesIO(written)) as image:
        found = image.getexif()
        assert found[0x010F] == "Maker" and found.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
        assert found.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)
        assert suffix != ".tiff" or found[0x0106] == 2
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_allclose(shown, as_shown(picture), atol=30 if suffix == ".jpg" else 0)


def test_exif_of_imagemagick_is_read():
    block = tags().removeprefix(exif.PREFIX)
    digits = (exif.PREFIX + block).hex()
    text = f"\nexif\n{len(digits) // 2:8}\n" + "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72)) + "\n"
    for name in ("exif", "APP1"):
        data = with_chunks(
            saved(RAMP, "PNG"), zTXt=f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text.encode())
        )
        assert parse_image(data).exif == block


def test_exif_of_gimp_is_read():
    block = tags()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    data = with_chunks(saved(RAMP, "PNG"), iTXt=b"Raw profile type exif" + bytes(5) + text)
    assert parse_image(data).exif == block.removeprefix(exif.PREFIX)


def test_the_orientation_of_a_thumbnail_is_not_the_picture_s():
    entry = lambda tag, value: struct.pack("<HHII", tag, 3, 1, value)
    first = struct.pack("<H", 1) + entry(exif.ORIENTATION, 3) + struct.pack("<I", 26)
    block = b"II*\0\x08\0\0\0" + first + struct.pack("<H", 1) + entry(exif.ORIENTATION, 6) + bytes(4)
    picture = parse_image(saved(RAMP, "PNG", exif=exif.PREFIX + block))
    np.testing.assert_array_equal(as_shown(picture), RAMP[::-1, ::-1])


def test_a_transparent_grey_of_a_gif(tmp_path):
    levels = np.repeat(np.array([[10, 200]], np.uint8), 8, 0).repeat(8, 1)
    picture = parse_image(saved(levels, "GIF", transparency=200))
    np.testing.assert_array_equal(picture.alpha, np.where(levels == 200, 0, 255))


XMP = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/><?xpacket end="w"?>'


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_xmp_and_resolution_survive(tiny_model, suffix, deep):
    if deep and suffix in (".jpg", ".webp"):
        return
    pixels = RAMP.astype(np.uint16) * 200 if deep else RAMP
    picture = parse_image(format_image(Picture(pixels, xmp=XMP, density=(11811, 5906)), suffix))
    chunks = images.to_chunks(picture)
    model = jnd_jax.load(tiny_model)
    data = model.encode(picture.pixels, extras=chunks)
    back = images.from_chunks(model.decode(data), bitstream.unpack(data)[1])
    assert back.xmp == XMP
    assert suffix == ".webp" or np.allclose(back.density, (11811, 5906), atol=20)


def test_a_tiff_that_is_turned_has_its_resolution_turned():
    block = Image.Exif()
    block[exif.ORIENTATION] = 6
    picture = Picture(RAMP, exif=block.tobytes().removeprefix(exif.PREFIX), density=(11811, 5906))
    back = parse_image(format_image(picture, ".tiff"))
    assert np.allclose(back.density, (5906, 11811), atol=20)


def test_an_orientation_in_xmp_does_not_turn_a_tiff():
    xmp = XMP.replace(b"/>", b'><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    picture = Picture(RAMP, exif=tags().removeprefix(exif.PREFIX), xmp=xmp)
    back = parse_image(format_image(picture, ".tiff"))
    np.testing.assert_array_equal(as_shown(back), as_shown(picture))


def packed_bmp(masks: tuple[int, int, int]) -> bytes:
    """A 16-bit BMP of one red, green, blue and white pixel each."""
    rows = struct.pack("<4H", *masks, sum(masks))
    header = struct.pack("<IiiHHIIiiII3I", 40, 4, 1, 1, 16, 3, len(rows), 2835, 2835, 0, 0, *masks)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


@pytest.mark.parametrize("masks", [(0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)])
def test_packed_bitmaps_are_read(masks):
    picture = parse_image(packed_bmp(masks))
    np.testing.assert_array_equal(picture.pixels[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.pnm", "a.tga", "a.apng", "a.dib", "a.JPEG"])
def test_names_of_files_that_are_read(tmp_path, name, tiny_model):
    kind = {"a.pnm": "PPM", "a.tga": "TGA", "a.apng": "PNG", "a.dib": "DIB"}.get(name, "JPEG")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(saved(RAMP, kind))
    assert main(["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]) == 0
    assert (tmp_path / "out" / "a.jnd").exists()


def test_a_file_that_would_start_a_program_is_refused(tmp_path, monkeypatch):
    log = tmp_path / "log"
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho started >> {log}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(JndError, match="no image of a kind that is read"):
        parse_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")
    assert not log.exists()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_only_if_asked_and_by_its_profile(kind):
    data = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind)
    with pytest.raises(JndError, match="CMYK"):
        parse_image(data)
    with pytest.raises(JndError, match="without a profile"):
        parse_image(data, convert=True)


def cmyk_profile() -> bytes:
    """A printer's profile with tables of two levels an ink (ICC.1:2022, 10.10): paper, and inks as dark as they add up."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    lightness = 255 * (1 - np.minimum(corners @ [0.3, 0.4, 0.1, 1.0], 1))
    lab = np.stack(
        [lightness, 128 + 40 * (corners[:, 1] - corners[:, 0]), 128 + 60 * (corners[:, 2] - 0.5 * corners[:, 0])], 1
    )
    lab[:, 1:] = np.where(corners[:, 3:] == 1, 128, lab[:, 1:])
    ramp, unit = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + 4 * ramp + lab.astype(np.uint8).tobytes() + 3 * ramp
    tag = lambda kind, body: kind + bytes(4) + body
    white = tag(b"XYZ ", struct.pack(">3i", 63190, 65536, 54061))
    parts = {b"A2B0": table, b"wtpt": white, b"desc": tag(b"desc", struct.pack(">I", 2) + b"p\0" + bytes(79))}
    directory, body, start = b"", b"", 132 + 12 * len(parts)
    for name, content in parts.items():
        directory += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = (
        struct.pack(">I4sI12s", start + len(body), b"", 0x02100000, b"prtrCMYKLab ") + bytes(12) + b"acsp" + bytes(28)
    )
    return (header + white[8:]).ljust(128, b"\0") + struct.pack(">I", len(parts)) + directory + body


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_converted_the_right_way_round(kind):
    inks = Image.new("CMYK", (24, 8), (0, 0, 0, 0))
    inks.paste((0, 0, 0, 255), (8, 0, 16, 8))
    inks.paste((0, 255, 0, 0), (16, 0, 24, 8))
    data = saved(inks, kind, icc_profile=cmyk_profile(), **({"quality": 95} if kind == "JPEG" else {}))
    picture = parse_image(data, convert=True)
    paper, black, magenta = picture.pixels[4, [4, 12, 20]].astype(int)
    assert paper.min() > 240 and black.max() < 15 and magenta[0] > magenta[1] + 40
    assert picture.icc is None


def test_lab_is_converted_if_asked():
    pixels = parse_image(saved(Image.new("LAB", (8, 8), (136, 128, 128)), "TIFF"), convert=True).pixels
    assert pixels.shape == (8, 8, 3) and np.ptp(pixels.astype(int)) <= 3


def test_the_demo_photo_has_nothing_to_lose():
    assert images.read_image(zoo.FOLDER / "chelsea.png").lost == ()


def bare_png(width, height, bits, colour, rows, **chunks: bytes) -> bytes:
    """A PNG of filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return png.SIGNATURE + chunk_bytes(IHDR=header, **chunks, IDAT=zlib.compress(rows), IEND=b"")


def test_bits_of_a_colour_key_beyond_the_depth_do_not_count():
    key = struct.pack(">H", 0x0100 | int(RAMP[0, 3, 0]))
    picture = parse_image(with_chunks(saved(RAMP[..., 0], "PNG"), tRNS=key))
    np.testing.assert_array_equal(picture.alpha == 0, RAMP[..., 0] == RAMP[0, 3, 0])


def test_rows_that_are_missing_are_no_black_ones():
    with pytest.raises(JndError, match="pixels end too soon"):
        parse_image(bare_png(4, 40, 8, 2, (b"\0" + bytes(12)) * 39))
    interlaced = bytearray(bare_png(9, 5, 8, 0, bytes(1 + 2 + 0 + 3 + 3 + 2 * 6 + 3 * 5 + 2 * 10)))
    interlaced[28] = 1
    interlaced[29:33] = struct.pack(">I", zlib.crc32(interlaced[12:29]))
    assert parse_image(bytes(interlaced)).pixels.shape == (5, 9)


@pytest.mark.parametrize("kind", ["ABCD", "CgBI"])
def test_pixels_that_an_unknown_chunk_changes_are_refused(kind):
    with pytest.raises(JndError, match=f"depend on a chunk {kind}"):
        parse_image(with_chunks(saved(RAMP, "PNG"), **{kind: b"\0"}))


def test_a_damaged_text_leaves_the_image_whole():
    data = with_chunks(saved(RAMP, "PNG"), tEXt=b"Raw profile type exif\0\nexif\n xx\n00\n")
    np.testing.assert_array_equal(parse_image(data).pixels, RAMP)


IPTC = b"\x1c\x02\x78\0\7caption"
RESOURCE = b"8BIM\4\4\0\0" + struct.pack(">I", len(IPTC)) + IPTC


def segment(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with a further segment at its beginning."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def captioned() -> dict[str, bytes]:
    tifffile = pytest.importorskip("tifffile")
    text = b"\niptc\n" + str(len(RESOURCE)).encode() + b"\n" + RESOURCE.hex().encode()
    files = {
        "JPEG": segment(saved(RAMP, "JPEG"), 0xED, b"Photoshop 3.0\0" + RESOURCE),
        "PNG": with_chunks(saved(RAMP, "PNG"), zTXt=b"Raw profile type iptc\0\0" + zlib.compress(text)),
    }
    for name, tag, content in (("TIFF", 33723, IPTC), ("TIFF of Photoshop", 34377, RESOURCE)):
        file = io.BytesIO()
        tifffile.imwrite(file, RAMP, photometric="rgb", extratags=[(tag, 1, len(content), content, True)])
        files[name] = file.getvalue()
    return files


def test_captions_that_are_not_kept_are_named():
    for name, data in captioned().items():
        assert parse_image(data).lost == (png.IPTC_LOST,), name


def test_parts_of_a_jpeg_that_are_not_kept_are_named():
    plain = saved(RAMP, "JPEG")
    for marker, content, named in (
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40), "extended XMP"),
        (0xE2, b"ICC_PROFILE\0\1\2" + SRGB[:99], "profile is damaged"),  # the first of two parts
    ):
        (clause,) = parse_image(segment(plain, marker, content)).lost
        assert named in clause
    several = saved(Image.fromarray(RAMP), "MPO", save_all=True, append_images=[Image.fromarray(RAMP)])
    assert "1 pictures behind its first" in parse_image(several).lost[0]


def test_opacity_behind_another_channel_is_no_colour():
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    samples = np.dstack([RAMP, np.full_like(RAMP[..., 0], 50), RAMP[..., 0]])
    tifffile.imwrite(file, samples, photometric="rgb", extrasamples=["unspecified", "unassalpha"])
    try:
        picture = parse_image(file.getvalue())
    except JndError:
        return
    np.testing.assert_array_equal(picture.pixels, RAMP)
    assert picture.lost and (picture.alpha is None or (picture.alpha == RAMP[..., 0]).all())


@pytest.mark.parametrize(("extra", "kept"), [("unassalpha", 1), ("assocalpha", 1), ("unspecified", 0)])
def test_further_channels_of_a_grey_tiff(extra, kept):
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    samples = np.dstack([RAMP[..., 0], np.full_like(RAMP[..., 0], 128)])
    tifffile.imwrite(file, samples, photometric="minisblack", planarconfig="contig", extrasamples=[extra])
    picture = parse_image(file.getvalue())
    assert (picture.alpha is not None) == kept and len(picture.lost) == 1 - kept
    if extra == "assocalpha":
        np.testing.assert_allclose(picture.pixels[:, :16], RAMP[:, :16, 0] * 2.0, atol=2)
    elif kept:
        np.testing.assert_array_equal(picture.pixels, RAMP[..., 0])


def test_signed_samples_are_refused():
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    tifffile.imwrite(file, RAMP[..., 0].astype(np.int8))
    with pytest.raises(JndError, match="signed samples"):
        parse_image(file.getvalue())


def test_twelve_bits_of_a_tiff_are_as_bright_as_sixteen():
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    levels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    tifffile.imwrite(file, levels, bitspersample=12)
    np.testing.assert_allclose(parse_image(file.getvalue()).pixels, levels * (65535 / 4095), atol=1)


@pytest.mark.parametrize("data", [b"P3\n2 1\n1000\n1000 0 500 # red\n0 0 1000\n", b"P2 1 2 1000 1000\n500"])
def test_deep_samples_as_text(data):
    levels = [65535, 0, 32768, 0, 0, 65535] if data.startswith(b"P3") else [65535, 32768]
    np.testing.assert_array_equal(parse_image(data).pixels.ravel(), levels)
    with pytest.raises(JndError):
        parse_image(data[: data.rindex(b"0 0" if data.startswith(b"P3") else b"\n500")])


@pytest.mark.parametrize("data", [b"P2 3 1 1000\n5 -3 20 ", b"P2 2 1 1000\n5 2000 ", b"P5 1 1 4095\n\x1f\xff"])
def test_samples_beyond_the_largest_are_damage(data):
    with pytest.raises(JndError, match="samples beyond"):
        parse_image(data)


@pytest.mark.parametrize("data", [b"P5\n2 1\n65535\n\xff\xff\1\2", b"P6 1 1 255\nabc\n", b"P4 9 2\n\0\0\1\1"])
def test_a_stream_of_several_images_is_refused(data):
    assert parse_image(data).pixels.size
    with pytest.raises(JndError, match="several images"):
        parse_image(data + data)


def test_damaged_tags_cause_no_warnings(recwarn):
    block = b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x1a\0\0\0\0\0\0\0\xff\xff\1"
    format_image(Picture(RAMP, exif=block), ".tiff")
    assert not recwarn.list


def test_a_png_called_tga_is_read(tmp_path):
    (tmp_path / "a.tga").write_bytes(saved(RAMP, "PNG"))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tga").pixels, RAMP)
