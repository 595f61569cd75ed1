"""Memory and time of encoding and decoding large images, each in a process of its own.

    python bench/memory.py 1 12 27 108 -o docs/results/pictures/memory.md

Sizes are in megapixels; the image is the demo photo, repeated and mirrored. Memory is the process's peak (ru_maxrss) less
what it had before, with the model loaded and its programs compiled by a small image.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import jnd_jax
from jnd_jax import images, zoo


def photo(megapixels: float) -> np.ndarray:
    """(H, W, 3) uint8, 4:3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    tile = images.read_image(zoo.FOLDER / "chelsea.png").pixels
    tile = np.concatenate([tile, tile[:, ::-1]], 1)
    tile = np.concatenate([tile, tile[::-1]], 0)
    rows, columns = -(-height // tile.shape[0]), -(-height * 4 // 3 // tile.shape[1])
    return np.ascontiguousarray(np.tile(tile, (rows, columns, 1))[:height, : height * 4 // 3])


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(what: str, megapixels: float, file: Path) -> None:
    """Encodes to the file or decodes it, and prints what it took."""
    codec, small = jnd_jax.load(), photo(1)
    data = codec.encode(small)
    codec.decode(data)
    subject = photo(megapixels) if what == "encode" else file.read_bytes()
    before, start = peak(), time.perf_counter()
    if what == "encode":
        file.write_bytes(codec.encode(subject))
    else:
        codec.decode(subject)
    print(json.dumps({"seconds": time.perf_counter() - start, "before": before, "grown": peak() - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megapixels", nargs="+", type=float)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child[0], args.megapixels[0], Path(args.child[1]))
    lines = [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        "| megapixels | what | MB before | MB more | bytes a pixel | s | s a megapixel |",
    ]
    lines.append("|" + "---|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        for size in args.megapixels:
            for what in ("encode", "decode"):
                command = [sys.executable, __file__, str(size), "--child", what, f"{folder}/{size}.jnd"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout)
                numbers = (
                    found["before"],
                    found["grown"],
                    found["grown"] / size,
                    found["seconds"],
                    found["seconds"] / size,
                )
                lines.append(f"| {size:g} | {what} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
                print(lines[-1], flush=True)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
