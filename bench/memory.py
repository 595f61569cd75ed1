"""Memory and time of encoding and decoding large images, each in a process of its own.

    python bench/memory.py 65535x183 32768x366 16384x732 12 12:alpha 12:residual 12:effort 27 -o docs/results/pictures/memory.md

Sizes are megapixels of 4:3 or width x height; the image is the demo photo, repeated and mirrored, opaque and lossy, or with
opacity that varies (`:alpha`), a bound of 8 levels on every error (`:residual`) or an effort of 1 (`:effort`). Opacity is
compressed and read too. Memory is the highest resident size of the process (VmHWM, Linux) less what it had before, with the
model loaded and its programs compiled by a small image. `--workers` counts the image too, which is not in it when encoding.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import jnd_jax
from jnd_jax import bitstream, images, zoo
from jnd_jax.memory import counted
from jnd_jax.policy import Policy
from jnd_jax.search import Target


def shape_of(size: str) -> tuple[int, int]:
    """Width and height of a size as it is given."""
    if "x" in size:
        width, height = map(int, size.split("x"))
        return width, height
    height = round((float(size) * 1e6 * 3 / 4) ** 0.5)
    return height * 4 // 3, height


def photo(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    tile = images.read_image(zoo.FOLDER / "chelsea.png").pixels
    tile = np.concatenate([tile, tile[:, ::-1]], 1)
    tile = np.concatenate([tile, tile[::-1]], 0)
    rows, columns = -(-height // tile.shape[0]), -(-width // tile.shape[1])
    return np.ascontiguousarray(np.tile(tile, (rows, columns, 1))[:height, :width])


def options(kind: str, image: np.ndarray) -> dict:
    """The arguments of `encode` for an image of a kind."""
    if kind == "alpha":
        return {"extras": {"alpha": images.encode_lossless(np.ascontiguousarray(image[..., 0] | 15))}}
    if kind == "residual":
        return {"policy": Policy("bench", "", Target("psnr", 1.0), Target("psnr", 1.0), 90.0, 8)}
    return {"effort": 1} if kind == "effort" else {}


def resident(field: str) -> float:
    """Megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6


def child(what: str, size: str, file: Path) -> None:
    """Encodes to the file or decodes it, and prints what it took."""
    size, _, kind = size.partition(":")
    codec, small = jnd_jax.load(), photo(1200, 900)
    codec.decode(codec.encode(small, **options(kind, small)))
    subject: Any = photo(*shape_of(size)) if what == "encode" else file.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM falls to what is resident now (proc(5))
    before, start = resident("VmRSS"), time.process_time()
    if what == "encode":
        file.write_bytes(codec.encode(subject, **options(kind, subject)))
    else:
        images.from_chunks(codec.decode(subject), bitstream.unpack(subject)[1])
    print(json.dumps({"cpu": time.process_time() - start, "before": before, "grown": resident("VmHWM") - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child[0], args.sizes[0], Path(args.child[1]))
    lines = [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        "| megapixels | what | MB before | MB more | 400 MB + 6 bytes a pixel | MB counted by `--workers` | CPU s | CPU s a megapixel |",
    ]
    lines.append("|" + "---|" * 8)
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            for what in ("encode", "decode"):
                command = [sys.executable, __file__, size, "--child", what, f"{folder}/{size}.jnd"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout)
                width, height = shape_of(size.partition(":")[0])
                megapixels = width * height / 1e6
                found |= {
                    "bound": 400 + 6 * megapixels,
                    "counted": counted(width, height, size.endswith(":effort")) / 1e6,
                }
                numbers = [found[name] for name in ("before", "grown", "bound", "counted", "cpu")]
                numbers.append(found["cpu"] / megapixels)
                lines.append(f"| {size} | {what} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
                print(lines[-1], flush=True)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
