"""What becomes of the images of a folder: read, carried as a .jnd file carries them, written in each format, read again.

    python bench/pictures.py NAME=FOLDER ... -o docs/results/pictures/corpora.md

The lossy middle is left out: pixels go from reader to writer as they are, so that any difference is a defect. JPEG is
lossy by itself and is compared by metadata and size alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from jnd_jax import images
from jnd_jax.errors import JndError
from jnd_jax.files import find


def carried(picture: images.Picture) -> images.Picture:
    """The picture after it has been in the chunks of a file."""
    return images.from_chunks(picture.pixels, images.to_chunks(picture))


def written(picture: images.Picture, suffix: str) -> str:
    """What became of a picture in one format: "right", "refused", or what differs."""
    try:
        back = images.parse_image(images.format_image(picture, suffix))
    except JndError as error:
        return "refused" if "cannot hold" in str(error) else f"WRONG: {error}"
    wrong = []
    if suffix != ".jpg" and not np.array_equal(images.as_shown(back), images.as_shown(picture)):
        grey_profile = picture.pixels.ndim == 2 and picture.icc and suffix == ".webp"
        wrong += [] if grey_profile else ["pixels"]
    if (back.alpha is None) != (picture.alpha is None):
        wrong.append("alpha")
    if picture.icc and back.icc != picture.icc and not (picture.pixels.ndim == 2 and suffix == ".webp"):
        wrong.append("icc")
    if picture.xmp and back.xmp != picture.xmp:
        wrong.append("xmp")
    if picture.exif and not back.exif and suffix != ".tiff":
        wrong.append("exif")
    return f"WRONG: {', '.join(wrong)}" if wrong else "right"


def outcome(path: Path) -> tuple[str, dict[str, str]]:
    """What reading gave ("read", or why not) and what each format gave."""
    try:
        picture = carried(images.read_image(path))
    except JndError as error:
        return f"refused: {str(error)[:90]}", {}
    except Exception as error:  # what must never happen
        return f"CRASH: {error!r}"[:120], {}
    return "read", {suffix: written(picture, suffix) for suffix in (".png", ".tiff", ".webp", ".jpg")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    lines = [f"`{shlex.join(['python', *sys.argv[:1]])} NAME=FOLDER ... -o {args.output}`", ""]
    lines += [
        "| corpus | images | read | right in every format that holds it | refused | wrong | crashed |",
        "|" + "---|" * 7,
    ]
    details = []
    for name, folder in (corpus.split("=", 1) for corpus in args.corpora):
        paths, count = find(Path(folder), images.READ_SUFFIXES), Counter()
        for path in paths:
            read, formats = outcome(path)
            wrong = {suffix: text for suffix, text in formats.items() if text.startswith("WRONG")}
            count[read.split(":")[0]] += 1
            count["wrong" if wrong else "right"] += read == "read"
            if read != "read" or wrong:
                what = read if read != "read" else "; ".join(f"{suffix} {text}" for suffix, text in wrong.items())
                details.append(f"| {name} | {path.relative_to(folder)} | {what.replace('|', '/')} |")
        numbers = (len(paths), count["read"], count["right"], count["refused"], count["wrong"], count["CRASH"])
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    lines += [
        "",
        "What was not read, or came out wrong:",
        "",
        "| corpus | file | outcome |",
        "|---|---|---|",
        *details,
        "",
    ]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
