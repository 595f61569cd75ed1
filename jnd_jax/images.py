"""The one reader and writer of images: pixels of 8 to 16 bits, with what must survive beside them."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (  # each registers the formats that `FORMATS` names
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,
    PpmImagePlugin,  # noqa: F401
    TgaImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from jnd_jax.bitstream import MAX_PIXELS, MAX_SIDE, fits
from jnd_jax.errors import JndError
from jnd_jax.files import read_bytes, write_bytes
from jnd_jax.formats import dicom, exif, icc, png, pnm, tiff

READ_SUFFIXES = tuple(
    ".png .apng .jpg .jpeg .jpe .jfif .mpo .webp .tif .tiff .bmp .dib .gif .ppm .pgm .pbm .pnm .tga .avif .jp2 .j2k .dcm".split()
)
# Written without loss, but for JPEG.
_WRITERS = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF"},
}
WRITE_SUFFIXES = tuple(_WRITERS)
# Pillow's other readers start programs (EPS, WMF) or are seldom tested.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000")
MAX_XMP = 16 << 20
# Tags of TIFF.
_SAMPLES, _SAMPLE_FORMAT, _IPTC, _PHOTOSHOP = 277, 339, 33723, 34377
# An image resource of Photoshop that holds an IPTC-IIM block.
_PHOTOSHOP_IPTC = b"8BIM\4\4"
# The beginning of a JPEG 2000 codestream: the markers SOC and SIZ.
_CODESTREAM = b"\xff\x4f\xff\x51"
_GREY_MODES = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}
PLAIN_MODES = _GREY_MODES | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}
_OTHER = "16B" if sys.byteorder == "little" else "16L"
# Pillow keeps the high bytes of 16-bit colours; with the other byte order it keeps the low ones.
_LOW_BYTES = {
    f"{mode};{order}": f"{mode};{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("16B", "16L"), ("16L", "16B"), ("16N", _OTHER))
}


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as it is coded.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W) grey, uint8, or uint16 for more than 8 bits, in the colour space of `icc` (sRGB
            without one), not rotated.
        alpha: (H, W) opacity of the same type, None for an opaque image.
        icc: ICC profile of the pixels.
        exif: EXIF block from its TIFF header on; its orientation is still to be applied.
        xmp: XMP packet.
        density: pixels per metre, horizontally and vertically.
        dicom: attributes of a DICOM image as JSON (PS3.18, F).
        lost: what the source file holds and this picture does not, a clause for each.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    density: tuple[int, int] | None = None
    dicom: bytes | None = None
    lost: tuple[str, ...] = ()


@dataclass
class _Source:
    """An opened file: its bytes, the formats it may be of, Pillow's raw mode, the parts of a PNG, the EXIF of a TIFF."""

    data: bytes
    formats: tuple[str, ...]
    raw: str
    png: png.Parts | None = None
    tiff_exif: bytes | None = None
    lost: list[str] = field(default_factory=list)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _refused_bits(image: Image.Image, source: _Source) -> int:
    """Bits a sample where these cannot be read in full; 8 for all that can."""
    raw = source.raw
    if image.mode in ("F", "I") or ";32" in raw:
        return 32
    if ";16" in raw and image.format in ("PNG", "TIFF"):
        readable = raw in _LOW_BYTES or raw == "LA;16B" or (image.mode in _GREY_MODES and "S" not in raw)
        return 8 if readable else 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(258, (8,)))
        return 8 if image.mode in _GREY_MODES and image.mode.startswith("I;16") else bits
    if image.format == "JPEG2000":
        # The depth of the first component in the codestream's SIZ marker (ISO 15444-1, A.5.1).
        start = source.data.find(_CODESTREAM)
        return (source.data[start + 42] & 0x7F) + 1
    if image.format == "AVIF" and (start := source.data.find(b"av1C")) >= 0:
        # high_bitdepth and twelve_bit of the AV1 configuration (AV1-ISOBMFF, 2.3.3).
        return {0: 8, 2: 10, 3: 12}.get(source.data[start + 6] >> 5 & 3, 8)
    return 8


def check_size(width: int, height: int) -> None:
    """Raises JndError for an image that is too large to be coded, or has no pixels."""
    if not width or not height:
        raise JndError(f"The image has no pixels ({width}x{height}): give one that has.")
    if not fits(width, height):
        raise JndError(
            f"The image is too large, {width}x{height} pixels: cut the image into parts of at most {MAX_SIDE} pixels a "
            f"side and {MAX_PIXELS} in all."
        )


def _left_out(image: Image.Image) -> list[str]:
    """What a JPEG or TIFF holds that a picture does not keep, a clause for each."""
    clauses = []
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if _IPTC in image.tag_v2 or _PHOTOSHOP_IPTC in bytes(image.tag_v2.get(_PHOTOSHOP, b"")):
            clauses.append(png.IPTC_LOST)
        further = image.tag_v2.get(_SAMPLES, 1) - len([band for band in image.getbands() if band != "X"])
        if further > 0:
            clauses.append(f"what it has beyond colours and opacity is left out, {further} of its channels")
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        segments = [content for _, content in image.applist]
        if any(content.startswith(b"Photoshop") and _PHOTOSHOP_IPTC in content for content in segments):
            clauses.append(png.IPTC_LOST)
        if any(content.startswith(b"ICC_PROFILE\0") for content in segments) and not image.info.get("icc_profile"):
            clauses.append("its colour profile is damaged, and is left out")
        if any(content.startswith(b"http://ns.adobe.com/xmp/extension/") for content in segments):
            clauses.append("its extended XMP is left out")
        if (pictures := getattr(image, "n_frames", 1)) > 1:
            clauses.append(f"the {pictures - 1} pictures behind its first are left out, such as a depth or a gain map")
    return clauses


def _check(image: Image.Image, source: _Source, convert: bool) -> None:
    bits = _refused_bits(image, source)
    signed = isinstance(image, TiffImagePlugin.TiffImageFile) and 2 in image.tag_v2.get(_SAMPLE_FORMAT, ())
    if bits > 8 or signed:
        raise JndError(
            f"The image has {'signed samples' if signed else f'{bits} bits a sample'} in a form that is not read: convert "
            "the image to a PNG or TIFF of 8 or 16 bits."
        )
    # A phone's MPO holds the photo first, then views of it for other displays.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise JndError(
            f"Animations and multi-page files cannot be coded: extract the {frames} frames or pages as one image each."
        )
    if image.mode not in PLAIN_MODES and not (convert and image.mode in ("CMYK", "LAB")):
        raise JndError(
            f"The image has the colour model {image.mode}, which is not coded: convert the image to RGB first, by its "
            "colour profile."
        )


def _decode_raw(source: _Source, raw: str) -> np.ndarray:
    """The bytes that Pillow unpacks with another raw mode."""
    with Image.open(io.BytesIO(source.png.pixels if source.png else source.data), formats=source.formats) as image:
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
        ]
        image.load()
        return np.asarray(image)


def _deep_samples(image: Image.Image, source: _Source) -> tuple[np.ndarray, np.ndarray | None]:
    """uint16 pixels and opacity of a loaded image."""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        if source.raw == "I;12":
            pixels = pixels << 4 | pixels >> 8
        white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0
        return (65535 - pixels if white_is_zero else pixels), None
    if source.raw == "LA;16B":
        samples = np.ascontiguousarray(_decode_raw(source, "RGBA")).view(">u2").astype(np.uint16)
    else:
        low = _decode_raw(source, _LOW_BYTES[source.raw])
        samples = np.asarray(image).astype(np.uint16) << 8 | low
    if samples.shape[2] == 2:
        return samples[..., 0], samples[..., 1]
    return samples[..., :3], samples[..., 3] if samples.shape[2] == 4 else None


def _samples(image: Image.Image, source: _Source) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W) or (H, W, 3) pixels, and opacity as the file has it, of a loaded image."""
    key = image.info.get("transparency") if source.png or image.mode in _GREY_MODES else None
    if image.mode.startswith("I;16") or (";16" in source.raw and image.format in ("PNG", "TIFF")):
        pixels, alpha = _deep_samples(image, source)
        if key is not None:
            hidden = pixels == key if pixels.ndim == 2 else (pixels == key).all(-1)
            alpha = np.where(hidden, np.uint16(0), np.uint16(65535))
        return pixels, alpha
    if image.mode in _GREY_MODES:
        if image.mode in ("LA", "La"):
            pixels, alpha = (np.asarray(band) for band in image.convert("LA").split())
            return pixels, alpha
        pixels, alpha = np.asarray(image.convert("L")), None
        if isinstance(key, int):
            # Pillow scales samples of 2 and 4 bits, but not their key.
            bits = source.png.bits if source.png else 8
            key = (key & {2: 3, 4: 15}.get(bits, 255)) * {2: 85, 4: 17}.get(bits, 1)
            alpha = np.where(pixels == key, np.uint8(0), np.uint8(255))
        return pixels, alpha
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return np.asarray(image.convert("RGB")), np.asarray(image.getchannel("A"))
    return np.asarray(image.convert("RGB")), None


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A loaded CMYK or Lab image in sRGB, by its profile."""
    if image.mode == "CMYK" and (not profile or icc.space(profile) != "CMYK"):
        raise JndError(
            "The image is CMYK without a profile that says which: convert it to RGB with a program that knows."
        )
    source = (
        ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
    )
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    srgb = ImageCms.createProfile("sRGB")
    converted: Any = ImageCms.profileToProfile(image, source, srgb, intent, outputMode="RGB", flags=flags)
    return converted


def _metadata(image: Image.Image, source: _Source) -> dict[str, bytes | None]:
    """Profile, EXIF and XMP as the file has them."""
    if source.png is not None:
        return {"icc": source.png.profile, "exif": source.png.exif, "xmp": source.png.xmp}
    xmp = image.info.get("xmp")
    return {
        "icc": image.info.get("icc_profile"),
        "exif": source.tiff_exif if image.format == "TIFF" else image.info.get("exif"),
        "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
    }


def _density(image: Image.Image, source: _Source) -> tuple[int, int] | None:
    """Pixels per metre as the file itself has them; what EXIF says stays there."""
    if source.png is not None:
        density = source.png.density
    elif image.format == "JPEG" and image.info.get("jfif_unit") not in (1, 2):
        density = None
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and 282 not in image.tag_v2:
        density = None
    else:
        density = tuple(round(float(dots) / 0.0254) for dots in image.info.get("dpi", ()))
    return density if density and len(density) == 2 and all(0 < dots < 1 << 32 for dots in density) else None


def _within_limits(metadata: dict[str, bytes | None], lost: list[str]) -> dict[str, bytes | None]:
    """Metadata without what is too large."""
    limits = {"icc": icc.MAX_BYTES, "exif": exif.MAX_BYTES, "xmp": MAX_XMP}
    for name, content in metadata.items():
        if len(content or b"") > limits[name]:
            lost.append(f"its {name.upper()} is larger than {limits[name] >> 20} MiB, and is left out")
            metadata[name] = None
    return metadata


def from_pillow(image: Image.Image) -> Picture:
    """The picture of a loaded Pillow image of a mode in `PLAIN_MODES`, with ICC profile, EXIF and XMP of its `info`."""
    return _to_picture(image, _Source(b"", (), "I;16" if image.mode.startswith("I;16") else ""))


def to_pillow(picture: Picture) -> Image.Image:
    """An L, LA, RGB or RGBA image of the pixels and the opacity, or I;16; other pixels of more than 8 bits get 8."""
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16 and (pixels.ndim == 3 or alpha is not None):
        pixels, alpha = eight_bits(pixels), None if alpha is None else eight_bits(alpha)
    image = Image.fromarray(pixels)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def _fitting(profile: bytes | None, dimensions: int, lost: list[str]) -> bytes | None:
    """A colour profile that fits grey (2 dimensions) or RGB pixels (3), or None."""
    space = icc.space(profile) if profile else None
    if not profile or space in (("GRAY", "RGB") if dimensions == 2 else ("RGB",)):
        return profile or None
    lost.append(
        f"its colour profile of the space {space} does not fit its pixels, and is left out"
        if space
        else "its colour profile is damaged, and is left out"
    )
    return None


def _to_picture(image: Image.Image, source: _Source) -> Picture:
    metadata = _within_limits(_metadata(image, source), source.lost)
    density = _density(image, source)
    if image.mode in ("CMYK", "LAB"):
        image, metadata["icc"] = _to_srgb(image, metadata["icc"]), None
    pixels, alpha = _samples(image, source)
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None
    profile = _fitting(metadata["icc"], pixels.ndim, source.lost)
    if profile is not None and pixels.ndim == 2 and icc.space(profile) == "RGB":
        pixels = np.repeat(pixels[..., None], 3, 2)
    block = metadata["exif"].removeprefix(exif.PREFIX) if metadata["exif"] else None
    return Picture(pixels, alpha, profile, block, metadata["xmp"] or None, density, lost=tuple(source.lost))


def read_image(path: str | Path, **options: Any) -> Picture:
    """Reads an image file, with `options` of `parse_image`; raises JndError as that does, or OSError."""
    # A TGA has no mark of its own.
    formats = (*FORMATS, "TGA") if Path(path).suffix.lower() == ".tga" else FORMATS
    return parse_image(read_bytes(path), formats, **options)


@contextlib.contextmanager
def _damage_as_error() -> Iterator[None]:
    """Raises JndError for whatever Pillow raises on a file that is none, or damaged."""
    with warnings.catch_warnings():
        # Pillow's limits on size are warnings; `check_size` has its own.
        warnings.simplefilter("ignore")
        try:
            yield
        except (JndError, MemoryError):
            raise
        except Image.UnidentifiedImageError as error:
            raise JndError(
                "This is no image of a kind that is read, or of a variant that is not, or damaged at its beginning: give an "
                f"image of the kinds {', '.join(FORMATS)}, of 8 or 16 bits a sample."
            ) from error
        except Image.DecompressionBombError as error:
            raise JndError(f"The image is too large ({error}): cut the image into parts.") from error
        # The parsers of Pillow's formats raise whatever they meet in a damaged file.
        except Exception as error:
            raise JndError(
                f"The image is truncated or damaged, or of a variant that is not read ({str(error) or type(error).__name__}): "
                "copy or download the image again, or convert it."
            ) from error


def parse_image(
    data: bytes,
    formats: tuple[str, ...] = FORMATS,
    *,
    convert: bool = False,
    patient: bool = False,
    check: Callable[[int, int], None] = check_size,
) -> Picture:
    """The picture in the bytes of an image file.

    Args:
        data: the file.
        formats: Pillow's names of the formats it may have.
        convert: whether CMYK (by its profile) and Lab become sRGB instead of being refused.
        patient: whether attributes of a DICOM image that name the patient, places and times are kept.
        check: called with width and height before pixels are decoded; raises JndError where they are too many.

    Raises:
        JndError: no image that is read, truncated, damaged or too large; 32 bits a sample, CMYK or Lab, or more than one
            frame.
    """
    with _damage_as_error():
        if (deep := pnm.read(data, check)) is not None:
            return Picture(deep)
        if dicom.matches(data):
            read = dicom.read(data, check, patient)
            profile = _fitting(_within_limits({"icc": read.icc}, read.notes)["icc"], read.samples.ndim, read.notes)
            return Picture(read.samples, icc=profile, dicom=read.attributes, lost=tuple(read.notes))
        parts = png.take_apart(data) if data.startswith(png.SIGNATURE) else None
        with Image.open(io.BytesIO(parts.pixels if parts else data), formats=formats) as image:
            source = _Source(data, formats, _raw_mode(image), parts)
            source.lost += parts.lost if parts else _left_out(image)
            check(*image.size)
            _check(image, source, convert)
            if parts is not None:
                png.check_pixels(parts, image.size)
            if image.format == "TIFF":
                # Pillow closes a TIFF when its pixels are decoded.
                source.tiff_exif = exif.from_tiff(image)
            image.load()
            return _to_picture(image, source)


def eight_bits(samples: np.ndarray, levels: int = 65535) -> np.ndarray:
    """uint8 of uint16 samples 0..levels; uint8 samples as they are."""
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) * 255 + levels // 2) // levels).astype(np.uint8)


def of_eight_bits(picture: Picture) -> Picture:
    """The picture with samples of 8 bits; levels of DICOM, which seldom reach 65535, from black to white."""
    alpha = None if picture.alpha is None else eight_bits(picture.alpha)
    levels = 65535 if picture.dicom is None else (1 << max(8, int(picture.pixels.max()).bit_length())) - 1
    return replace(picture, pixels=eight_bits(picture.pixels, levels), alpha=alpha)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture of 8 bits at another size (width, height), by Lanczos' filter."""
    picture = of_eight_bits(picture)
    scaled = lambda samples: np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.LANCZOS))
    alpha = None if picture.alpha is None else scaled(picture.alpha)
    return replace(picture, pixels=scaled(picture.pixels), alpha=alpha)


def mean_channel(pixels: np.ndarray) -> np.ndarray:
    """(H, W) rounded means of (H, W, 3) samples."""
    return ((2 * pixels.sum(-1, dtype=np.uint32) + 3) // 6).astype(pixels.dtype)


def as_shown(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8 of a picture as a viewer turns it; its opacity and its profile are left aside."""
    pixels = eight_bits(picture.pixels)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    return np.ascontiguousarray(exif.as_shown(pixels, exif.orientation(picture.exif)))


def as_stored(shown: np.ndarray, picture: Picture) -> np.ndarray:
    """An (H, W, ...) array drawn on `as_shown(picture)`, such as a mask, on the picture's pixels as they are stored."""
    return np.ascontiguousarray(exif.as_stored(shown, exif.orientation(picture.exif)))


def read_rgb(path: str | Path) -> np.ndarray:
    """`as_shown` of an image file: what metrics, targets and training see of it; raises JndError or OSError."""
    return as_shown(read_image(path))


def writable(path: str | Path) -> None:
    """Raises JndError unless the path's suffix names a format that `write_image` writes."""
    if Path(path).suffix.lower() not in _WRITERS:
        raise JndError(
            f"Images are not written as {Path(path).name!r}: name the output with one of the suffixes "
            f"{', '.join(WRITE_SUFFIXES)}."
        )


def write_image(path: str | Path, picture: Picture) -> None:
    """Writes PNG, lossless WebP, TIFF (deflate) or JPEG (quality 95, 4:4:4) by suffix, all of it or nothing.

    Raises:
        JndError: another suffix, opacity or more than 8 bits in a format without them, or a picture that the format
            cannot hold.
        OSError: the file cannot be written.
    """
    writable(path)
    write_bytes(path, format_image(picture, Path(path).suffix))


def format_image(picture: Picture, suffix: str, **changes: object) -> bytes:
    """The file that `write_image` writes with this suffix; `changes` of Pillow's options, such as quality=80.

    Raises:
        JndError: opacity or more than 8 bits in a format without them, or a picture that the format cannot hold.
    """
    options = _WRITERS[suffix.lower()] | changes
    kind = options["format"]
    if picture.alpha is not None and kind == "JPEG":
        raise JndError("JPEG cannot hold the image's transparency: write the image as .png, .webp or .tiff.")
    deep = picture.pixels.dtype == np.uint16
    if deep and kind in ("JPEG", "WEBP"):
        raise JndError(f"{kind} cannot hold the image's 16 bits a sample: write the image as .png or .tiff.")
    try:
        if kind == "TIFF":
            data = _format_tiff(picture)
        elif deep:
            data = _format_deep_png(picture)
        else:
            data = _format_by_pillow(picture, options)
        back = parse_image(data)
    # Metadata of a damaged file, or sides beyond the format's limit.
    except Exception as error:
        raise JndError(f"{kind} cannot hold the image ({error}): write the image in another format.") from error
    upright = exif.as_shown(_joined(picture), exif.orientation(picture.exif))
    read = exif.as_shown(_joined(back), exif.orientation(back.exif))
    own = kind == "TIFF" or deep
    if read.shape[:2] != upright.shape[:2] or (own and not (read[..., [0, -1]] == upright[..., [0, -1]]).all()):
        raise JndError(f"{kind} does not give the image back: write the image in another format.")
    return data


def _joined(picture: Picture) -> np.ndarray:
    """(H, W, C) samples with opacity as the last channel."""
    pixels = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    return pixels if picture.alpha is None else np.concatenate([pixels, picture.alpha[..., None]], 2)


def _format_tiff(picture: Picture) -> bytes:
    # What a TIFF says of orientation many readers pass over.
    orientation, density = exif.orientation(picture.exif), picture.density
    upright = exif.as_shown(_joined(picture), orientation)
    if density and orientation in exif.SIDEWAYS:
        density = density[1], density[0]
    if upright.shape[2] == 2 and upright.dtype == np.uint16:
        if picture.icc:
            raise JndError("16-bit grey with opacity becomes RGB, which its grey profile does not fit")
        # Pillow does not read grey with opacity of 16 bits.
        upright = upright[..., [0, 0, 0, 1]]
    return tiff.build(upright, picture.icc, picture.exif, picture.xmp, density)


def _format_deep_png(picture: Picture) -> bytes:
    chunks = {}
    if picture.icc:
        chunks[b"iCCP"] = b"ICC Profile\0\0" + png.deflate(picture.icc)
    if picture.density:
        chunks[b"pHYs"] = struct.pack(">IIB", *picture.density, 1)
    if picture.exif:
        chunks[b"eXIf"] = picture.exif
    if picture.xmp:
        chunks[b"iTXt"] = png.XMP_KEY.encode() + bytes(5) + picture.xmp
    return png.build(_joined(picture), chunks)


def _format_by_pillow(picture: Picture, options: Mapping[str, Any]) -> bytes:
    kind, profile = options["format"], picture.icc
    image: Any = to_pillow(picture)
    if kind == "WEBP" and picture.pixels.ndim == 2 and profile:
        # WebP has no grey images, which a grey profile would fit.
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(Image.fromarray(picture.pixels), source, srgb, outputMode="RGB")
        if picture.alpha is not None:
            image.putalpha(Image.fromarray(picture.alpha))
        profile = None
    metadata: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if picture.exif:
        metadata["exif"] = exif.PREFIX + picture.exif
    if picture.density:
        metadata["dpi"] = tuple(dots * 0.0254 for dots in picture.density)
    if picture.xmp and kind == "PNG":
        metadata["pnginfo"] = PngImagePlugin.PngInfo()
        metadata["pnginfo"].add_itxt(png.XMP_KEY, picture.xmp.decode("utf-8", "replace"))
    elif picture.xmp:
        metadata["xmp"] = picture.xmp
    return _saved(image, **options, **metadata)


def smooth_hidden(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels of which those that nobody sees (alpha 0) continue the others smoothly, so that they cost few bits.

    Each hidden pixel takes the mean of the smallest square of 2, 4, 8, ... pixels around it that holds visible ones.

    Args:
        pixels: (H, W, 3) or (H, W).
        alpha: (H, W).
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return np.full_like(pixels, np.iinfo(pixels.dtype).max // 2) if hidden.all() else pixels
    height, width = alpha.shape
    sums = np.where(hidden[..., None], 0, pixels.reshape(height, width, -1)).astype(np.float32)
    counts, filled, missing, size = (~hidden).astype(np.float32), pixels.copy(), hidden, 1
    while missing.any():
        sides = [(0, side % 2) for side in counts.shape]
        sums, counts = np.pad(sums, [*sides, (0, 0)]), np.pad(counts, sides)
        sums = sums[::2, ::2] + sums[1::2, ::2] + sums[::2, 1::2] + sums[1::2, 1::2]
        counts = counts[::2, ::2] + counts[1::2, ::2] + counts[::2, 1::2] + counts[1::2, 1::2]
        size *= 2
        rows, columns = np.nonzero(missing)
        cells = rows // size, columns // size
        found = counts[cells] > 0
        means = np.rint(sums[cells][found] / counts[cells][found][:, None]).astype(pixels.dtype)
        filled[rows[found], columns[found]] = means if pixels.ndim == 3 else means[:, 0]
        missing = missing.copy()
        missing[rows[found], columns[found]] = False
    return filled


def encode_lossless(samples: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as the smaller of a PNG and a lossless WebP, uint16 as a PNG."""
    if samples.dtype == np.uint16:
        return png.build(samples if samples.ndim == 3 else samples[..., None])
    image = Image.fromarray(samples)
    files = [_saved(image, format="PNG", optimize=True)]
    if max(image.size) <= 16383:
        files.append(_saved(image, format="WEBP", lossless=True, method=4))
    return min(files, key=len)


def encode_deep_lossless(samples: np.ndarray) -> bytes:
    """uint16 as `encode_lossless`, or if that is smaller, (H, W) as a reversible JPEG 2000 codestream (ISO 15444-1)."""
    files = [encode_lossless(samples)]
    if samples.ndim == 2 and features.check("jpg_2000"):
        files.append(_saved(Image.fromarray(samples), format="JPEG2000", no_jp2=True, irreversible=False))
    return min(files, key=len)


def _saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _open_lossless(data: bytes) -> Image.Image:
    # Not by Image.open, which refuses large images: this one's size is the header's.
    kinds = {png.SIGNATURE: PngImagePlugin.PngImageFile, _CODESTREAM: Jpeg2KImagePlugin.Jpeg2KImageFile}
    found = [reader for mark, reader in kinds.items() if data.startswith(mark)]
    return (found[0] if found else WebPImagePlugin.WebPImageFile)(io.BytesIO(data))


def decode_lossless(data: bytes, shape: tuple[int, ...], what: str) -> np.ndarray:
    """uint8 or uint16 samples of `shape` as they were encoded; for anything else JndError, which calls them `what`."""
    try:
        with _open_lossless(data) as image:
            if image.size != (shape[1], shape[0]):
                raise JndError(f"The file's {what} is not of the image's size: have the file written again.")
            raw = _raw_mode(image)
            if image.format == "JPEG2000" and image.mode != "I;16":
                raise JndError(
                    f"The file's {what} is a JPEG 2000 that is not grey of 16 bits: have the file written again."
                )
            if ";16" not in raw and image.mode != "I;16":
                return np.asarray(image.convert("L" if len(shape) == 2 else "RGB"))
            image.load()
            parts = png.Parts(data, 16, len(shape) == 2)
            samples, _ = _deep_samples(image, _Source(data, ("PNG",), raw, parts))
    except JndError:
        raise
    except Exception as error:
        raise JndError(f"The file's {what} is damaged ({error}): copy or download it again.") from error
    if samples.shape != shape:
        raise JndError(f"The file's {what} has other channels than the image: have the file written again.")
    return samples


def to_chunks(picture: Picture) -> dict[str, bytes]:
    """What a .jnd file holds beside the coded pixels of `picture`."""
    chunks = {"icc": picture.icc, "exif": picture.exif, "xmp": picture.xmp, "dicom": picture.dicom}
    if picture.alpha is not None:
        chunks["alpha"] = encode_lossless(picture.alpha)
    if picture.density is not None:
        chunks["density"] = struct.pack("<II", *picture.density)
    return {name: chunk for name, chunk in chunks.items() if chunk is not None}


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image, in pixels.

    Attributes:
        left, top, width, height: where it lies.
        image_width, image_height: of the whole image, in which it must lie; else JndError.
    """

    left: int
    top: int
    width: int
    height: int
    image_width: int
    image_height: int

    def __post_init__(self) -> None:
        spans = (self.left, self.width, self.image_width), (self.top, self.height, self.image_height)
        if any(start < 0 or length < 1 or start + length > whole for start, length, whole in spans):
            raise JndError(
                f"The rectangle {self.left},{self.top},{self.width},{self.height} does not lie in the image of "
                f"{self.image_width}x{self.image_height} pixels: give x,y,width,height within it."
            )

    def of(self, samples: np.ndarray) -> np.ndarray:
        """This part of (H, W, ...) samples of the whole image."""
        return samples[self.top : self.top + self.height, self.left : self.left + self.width]


def decode_part(data: bytes, shape: tuple[int, ...], what: str, crop: Crop | None) -> np.ndarray:
    """As `decode_lossless`, but of an image of which `shape` is that of the part `crop`."""
    if crop is None:
        return decode_lossless(data, shape, what)
    return crop.of(decode_lossless(data, (crop.image_height, crop.image_width, *shape[2:]), what))


def from_chunks(pixels: np.ndarray, chunks: Mapping[str, bytes], crop: Crop | None = None) -> Picture:
    """The picture of decoded pixels and a file's chunks; JndError if these do not fit.

    Args:
        pixels: (H, W, 3) or (H, W).
        chunks: of the file, by name.
        crop: the part of the file's image that was decoded; None: all of it.
    """
    alpha = decode_part(chunks["alpha"], pixels.shape[:2], "alpha channel", crop) if "alpha" in chunks else None
    if alpha is not None and alpha.dtype != pixels.dtype:
        raise JndError("The file's alpha channel has another depth than the image: have the file written again.")
    density = None
    if "density" in chunks:
        if len(chunks["density"]) != 8 or 0 in (density := struct.unpack("<II", chunks["density"])):
            raise JndError("The file's density is damaged: copy or download it again.")
    icc, exif, xmp, dicom = (chunks.get(name) for name in ("icc", "exif", "xmp", "dicom"))
    return Picture(pixels, alpha, icc, exif, xmp, density, dicom)
