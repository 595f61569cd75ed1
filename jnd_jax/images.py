"""Image files: 8-bit RGB pixels with what must survive beside them (opacity, colour profile, EXIF)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from jnd_jax.bitstream import MAX_PIXELS, MAX_SIDE
from jnd_jax.errors import JndError
from jnd_jax.files import write_bytes

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".avif", ".jp2")
# Written without loss, but for JPEG.
_WRITERS = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
    ".tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    ".tiff": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
}
WRITE_SUFFIXES = tuple(_WRITERS)
PLAIN_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}
_EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as it is coded.

    Attributes:
        pixels: (H, W, 3) uint8 RGB in the colour space of `icc` (sRGB without one), not rotated.
        alpha: (H, W) uint8 opacity, None for an opaque image.
        icc: ICC profile of the pixels.
        exif: EXIF block from its TIFF header on; its orientation is still to be applied.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a sample of an opened image file; Pillow reads some deeper files as 8 bits without a word."""
    codec, _, _, args = image.tile[0] if image.tile else ("", None, 0, "")
    raw_mode = args[0] if isinstance(args, tuple) else args
    if image.mode in ("F", "I") or ";32" in str(raw_mode):
        return 32
    if image.mode.startswith("I;16") or ";16" in str(raw_mode) or (codec == "ppm" and args[1] > 255):
        return 16
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))
    if image.format == "JPEG2000":
        # The depth of the first component in the codestream's SIZ marker (ISO 15444-1, A.5.1).
        start = data.find(b"\xff\x4f\xff\x51")
        return (data[start + 42] & 0x7F) + 1
    if image.format == "AVIF" and (start := data.find(b"av1C")) >= 0:
        # high_bitdepth and twelve_bit of the AV1 configuration (AV1-ISOBMFF, 2.3.3).
        return {0: 8, 2: 10, 3: 12}.get(data[start + 6] >> 5 & 3, 8)
    return 8


def _check(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise JndError(
            f"cut the image into parts: {width}x{height} pixels are more than {MAX_SIDE} a side or {MAX_PIXELS} in all"
        )
    bits = _bits(image, data)
    if bits > 8:
        raise JndError(
            "convert the image to 8 bits a sample first, or keep it in a lossless format: its "
            f"{bits} bits would be lost"
        )
    # A phone's MPO holds the photo first, then views of it for other displays.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise JndError(
            f"extract the {frames} frames or pages as one image each: animations and multi-page files cannot be coded"
        )
    if image.mode not in PLAIN_MODES:
        raise JndError(f"convert the image to RGB first, by its colour profile: {image.mode} is not coded")


def _grey_to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image.convert("L"), profile, srgb, outputMode="RGB")


def from_pillow(image: Image.Image) -> Picture:
    """The picture of an 8-bit Pillow image, with the ICC profile and EXIF of its `info`."""
    icc = image.info.get("icc_profile") or None
    # Pillow applies a TIFF's orientation itself; the other tags of a TIFF say how that file is laid out.
    exif = None if image.format == "TIFF" else image.info.get("exif") or None
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        alpha = None if alpha.min() == 255 else alpha
    if icc is not None and icc[16:20] == b"GRAY":
        # The profile of a grey image does not fit the RGB pixels that the decoder writes.
        image, icc = _grey_to_srgb(image, icc), None
    exif = exif.removeprefix(_EXIF_PREFIX) if exif else None
    return Picture(np.asarray(image.convert("RGB")), alpha, icc, exif)


def to_pillow(picture: Picture) -> Image.Image:
    """An RGB or RGBA image of the pixels and the opacity."""
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def read_image(path: str | Path) -> Picture:
    """Reads an image file; raises JndError as `parse_image`, or OSError."""
    return parse_image(Path(path).read_bytes())


def parse_image(data: bytes) -> Picture:
    """The picture in the bytes of an image file.

    Raises:
        JndError: not an image that Pillow reads, truncated, damaged or too large; more than 8 bits a sample,
            CMYK or Lab, or more than one frame.
    """
    with warnings.catch_warnings():
        # Pillow's limits on size are warnings; `_check` has its own.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                _check(image, data)
                image.load()
                return from_pillow(image)
        except JndError:
            raise
        except Image.UnidentifiedImageError as error:
            raise JndError(
                "give an image that Pillow can read (PNG, JPEG, WebP, TIFF, AVIF, ...): this is "
                "none, or damaged at its beginning"
            ) from error
        except Image.DecompressionBombError as error:
            raise JndError(f"cut the image into parts: it is too large ({error})") from error
        # The parsers of Pillow's formats raise whatever they meet in a damaged file.
        except Exception as error:
            raise JndError(f"copy or download the image again: it is truncated or damaged ({error})") from error


def writable(path: str | Path) -> None:
    """Raises JndError unless the path's suffix names a format that `write_image` writes."""
    if Path(path).suffix.lower() not in _WRITERS:
        raise JndError(f"name the output with one of the suffixes {', '.join(WRITE_SUFFIXES)}, not {Path(path).name!r}")


def write_image(path: str | Path, picture: Picture) -> None:
    """Writes PNG, lossless WebP, TIFF (deflate) or JPEG (quality 95, 4:4:4) by suffix, all of it or nothing.

    Raises:
        JndError: another suffix, an alpha channel in JPEG, or a picture that the format cannot hold.
        OSError: the file cannot be written.
    """
    writable(path)
    write_bytes(path, format_image(picture, Path(path).suffix))


def format_image(picture: Picture, suffix: str, **changes: object) -> bytes:
    """The file that `write_image` writes with this suffix; `changes` of Pillow's options, such as quality=80.

    Raises:
        JndError: an alpha channel in JPEG, or a picture that the format cannot hold.
    """
    options = _WRITERS[suffix.lower()] | changes
    if picture.alpha is not None and options["format"] == "JPEG":
        raise JndError("write the image as .png, .webp or .tiff: JPEG cannot hold its transparency")
    image = to_pillow(picture)
    metadata = {"icc_profile": picture.icc} if picture.icc else {}
    if picture.exif:
        metadata["exif"] = _EXIF_PREFIX + picture.exif
    buffer = io.BytesIO()
    try:
        image.save(buffer, **options, **metadata)
    # Metadata of a damaged file, or sides beyond the format's limit.
    except Exception as error:
        raise JndError(f"write the image in another format: {options['format']} cannot hold it ({error})") from error
    return buffer.getvalue()


def encode_lossless(samples: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as the smaller of a PNG and a lossless WebP."""
    image = Image.fromarray(samples)
    files = []
    for options in ({"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True, "method": 4}):
        buffer = io.BytesIO()
        if options["format"] == "WEBP" and max(image.size) > 16383:
            continue
        image.save(buffer, **options)
        files.append(buffer.getvalue())
    return min(files, key=len)


def decode_lossless(data: bytes, shape: tuple[int, ...], what: str) -> np.ndarray:
    """uint8 samples of `shape` from `encode_lossless`; for anything else JndError, which calls them `what`."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
            if image.size == (shape[1], shape[0]):
                return np.asarray(image.convert("L" if len(shape) == 2 else "RGB"))
    except Exception as error:
        raise JndError(f"the file's {what} is damaged ({error}): copy or download it again") from error
    raise JndError(f"the file's {what} is not of the image's size: have the file written again")


def to_chunks(picture: Picture) -> dict[str, bytes]:
    """What a .jnd file holds beside the coded pixels of `picture`."""
    chunks = {"icc": picture.icc, "exif": picture.exif}
    if picture.alpha is not None:
        chunks["alpha"] = encode_lossless(picture.alpha)
    return {name: chunk for name, chunk in chunks.items() if chunk is not None}


def from_chunks(pixels: np.ndarray, chunks: Mapping[str, bytes]) -> Picture:
    """The picture of decoded (H, W, 3) uint8 `pixels` and a file's chunks; JndError if these do not fit."""
    alpha = decode_lossless(chunks["alpha"], pixels.shape[:2], "alpha channel") if "alpha" in chunks else None
    return Picture(pixels, alpha, chunks.get("icc"), chunks.get("exif"))
