"""The HTTP service under load: 200 requests at once, with damaged, slow and oversized ones among them.

    python -m bench.serve_load [--model MODEL] [--requests 200] [--size 256x192]

Starts `jnd-jax serve` on loopback with limits of its own, and sends what `tests.serving.load` says. Needs the packages of
`pip install 'jnd-jax[dev]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

import jnd_jax
from jnd_jax import zoo
from tests.serving.load import cases, load

MODEL = Path(__file__).parents[1] / "tests" / "golden" / "tiny.safetensors"
BODY_LIMIT = 1 << 20
PATIENCE = 3.0


def memory(process: subprocess.Popen) -> float:
    """Peak resident memory of a process so far, MiB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--size", default="256x192", metavar="WxH", help="of the image (default: %(default)s)")
    args = parser.parse_args()
    size = tuple(map(int, args.size.split("x")))
    image = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB").resize(size))
    expected = cases(jnd_jax.load(args.model), image)
    command = [
        sys.executable,
        "-m",
        "jnd_jax.cli",
        "serve",
        args.model,
        "--port",
        "0",
        "--patience",
        str(PATIENCE),
        "--max-megabytes",
        str(BODY_LIMIT / 2**20),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        asyncio.run(load(url, expected, 40, BODY_LIMIT))
        before, start = memory(server), time.perf_counter()
        outcomes = asyncio.run(load(url, expected, args.requests, BODY_LIMIT))
        seconds, after = time.perf_counter() - start, memory(server)
        alive = httpx.get(f"{url}/health").status_code == 200 and server.poll() is None
    finally:
        server.terminate()
        server.wait()
    print(
        "| request | sent | answered right | statuses of the last answer | refused with 503 on the way |\n|---|---|---|---|---|"
    )
    for kind in ("decode", "encode", "damaged", "slow", "oversized"):
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        last = dict(Counter(outcome.statuses[-1] for outcome in mine))
        busy = sum(outcome.statuses.count(503) for outcome in mine)
        print(f"| {kind} | {len(mine)} | {sum(outcome.right for outcome in mine)} | {last} | {busy} |")
    right = sum(outcome.right for outcome in outcomes)
    print(
        f"\n{right} of {len(outcomes)} answered right ({right / len(outcomes):.1%}) in {seconds:.1f} s; the service "
        f"{'goes on' if alive else 'is DEAD'}\npeak memory {before:.0f} MiB warmed up, {after:.0f} MiB after the load: "
        f"x {after / before:.2f}"
    )
    return 0 if alive and right == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
