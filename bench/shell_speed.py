"""Time and memory of the command line: a first run, a run with warm caches, and a photo of 12 megapixels.

    python bench/shell_speed.py [--model jnd-base] [--image PHOTO] [--rounds 3] [--threads 2]

Each figure is a whole process from start to exit. "first" has an empty compilation cache, "warm" finds it filled by the
runs before. Memory is the process's peak resident set. Without --image the photo is one of scikit-image's, at 768x512.
The 12-megapixel photo is the same, enlarged to 4000x3000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jnd_jax.metrics.psnr import psnr


def process(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one `jnd-jax` process."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "jnd_jax.cli", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"jnd-jax {' '.join(arguments)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-base")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    if args.image:
        photo = Image.open(args.image).convert("RGB")
    else:
        import skimage.data

        photo = Image.fromarray(skimage.data.coffee()).resize((768, 512), Image.Resampling.LANCZOS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photo.save(work / "small.png")
        photo.resize((4000, 3000), Image.Resampling.LANCZOS).save(work / "large.png")
        print(f"{args.model}, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
        for name in ("small", "large"):
            encode = ["encode", str(work / f"{name}.png"), "-o", str(work / f"{name}.jnd"), "--model", args.model]
            decode = ["decode", str(work / f"{name}.jnd"), "-o", str(work / f"{name}-out.png"), "--model", args.model]
            for what, arguments in (("encode", encode), ("decode", decode)):
                runs = [process(arguments, work / f"cache-{name}-{what}") for _ in range(args.rounds + 1)]
                warm = statistics.median(seconds for seconds, _ in runs[1:])
                print(
                    f"{name} ({'x'.join(map(str, Image.open(work / f'{name}.png').size))}) {what}: first {runs[0][0]:.2f} s, "
                    f"warm {warm:.2f} s, first / warm {runs[0][0] / warm:.2f}, peak {max(m for _, m in runs):.0f} MB",
                    flush=True,
                )
            pair = [np.asarray(Image.open(work / f"{name}{end}.png")) for end in ("", "-out")]
            print(f"{name}: {(work / f'{name}.jnd').stat().st_size} bytes, PSNR {psnr(*pair):.2f} dB")


if __name__ == "__main__":
    main()
