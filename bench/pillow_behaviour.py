"""What Pillow does with .jnd, AVIF and WebP files, row by row: the table of docs/pillow.md.

python bench/pillow_behaviour.py
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

from PIL import ExifTags, Image, ImageCms, ImageFile

import jnd_jax.pillow  # noqa: F401  registers the format
from jnd_jax import zoo

FORMATS = ("JND", "AVIF", "WEBP")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo() -> Image.Image:
    return Image.open(zoo.FOLDER / "chelsea.png").crop((40, 60, 296, 300))


def exif() -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    return block


def save(form: str, image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def load(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def told_to_load(data: bytes) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return load(data)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def damaged(form: str) -> bytes:
    data = save(form, photo())
    return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]


def drafted(form: str) -> tuple[int, int]:
    image = Image.open(io.BytesIO(save(form, photo())))
    image.draft("RGB", (32, 30))
    return image.size


ROWS: dict[str, Callable[[str], object]] = {
    "MIME type": lambda form: load(save(form, photo())).get_format_mimetype(),
    "`icc_profile` given": lambda form: (
        load(save(form, photo(), icc_profile=PROFILE)).info.get("icc_profile") == PROFILE
    ),
    "`icc_profile` of `info`, not given": lambda form: (
        "icc_profile" in load(save(form, load(save(form, photo(), icc_profile=PROFILE)))).info
    ),
    "`exif` given: orientation": lambda form: load(save(form, photo(), exif=exif())).getexif().get(0x112),
    "`exif` of `info`, not given": lambda form: (
        load(save(form, load(save(form, photo(), exif=exif())))).getexif().get(0x112)
    ),
    **{
        f"mode {mode} comes back as": lambda form, mode=mode: load(save(form, Image.new(mode, (16, 16)))).mode
        for mode in ("L", "LA", "RGBA", "P", "I;16", "CMYK", "F")
    },
    "`quality=101`": lambda form: len(save(form, photo(), quality=101)),
    "truncated: `open`": lambda form: Image.open(io.BytesIO(save(form, photo())[:-5])).size,
    "truncated: `load`": lambda form: load(save(form, photo())[:-5]).size,
    "truncated, `LOAD_TRUNCATED_IMAGES`: `load`": lambda form: told_to_load(save(form, photo())[:-200]).size,
    "one bit flipped: `verify`": lambda form: Image.open(io.BytesIO(damaged(form))).verify() or "passes",
    "one bit flipped: `load`": lambda form: load(damaged(form)).size,
    "`draft` of 256x240 for 32x30": drafted,
}


def outcome(row: Callable[[str], object], form: str) -> str:
    try:
        return str(row(form))
    except Exception as error:
        return type(error).__name__


def main() -> None:
    warnings.simplefilter("ignore")
    print("| | " + " | ".join(FORMATS) + " |\n" + "|---" * (len(FORMATS) + 1) + "|")
    for name, row in ROWS.items():
        print(f"| {name} | " + " | ".join(outcome(row, form) for form in FORMATS) + " |")


if __name__ == "__main__":
    main()
