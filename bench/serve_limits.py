"""What the most expensive requests that the service's default limits allow take: CPU seconds and memory of a worker.

    python -m bench.serve_limits [--model MODEL] [--scale 1]

A flat PNG of as many pixels as are allowed (small to send), noise of as many bytes as are allowed (dear to code), both
encoded at quality 100 and decoded again. `--scale 0.1` takes a tenth of the pixels. Needs `pip install 'jnd-jax[dev]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import threading

import httpx
import numpy as np
import psutil
from PIL import Image

from bench.serve_load import running
from jnd_jax import zoo
from jnd_jax.serving.service.limits import Limits

# Noise does not compress: a PNG of it has about as many bytes as samples.
_OVERHEAD = 1.01


class Worker(threading.Thread):
    """CPU seconds and peak resident memory (MiB) of the process that codes, from now on."""

    def __init__(self, service: int):
        super().__init__(daemon=True)
        children = psutil.Process(service).children(recursive=True)
        self._process = max(children, key=lambda child: child.memory_info().rss)
        self._before, self.seconds, self.memory, self.ended = self._cpu(), 0.0, 0.0, threading.Event()

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self.ended.wait(0.02):
                self.seconds = self._cpu() - self._before
                self.memory = max(self.memory, self._process.memory_info().rss / 2**20)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def largest(scale: float) -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 images, 3:2, by what is in them."""
    sides = lambda pixels: (int((pixels * 2 / 3) ** 0.5), int((pixels * 3 / 2) ** 0.5))
    noisy = min(Limits.pixels, Limits.body / 3 / _OVERHEAD) * scale
    return {
        "flat": np.full((*sides(Limits.pixels * scale), 3), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (*sides(noisy), 3), np.uint8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=zoo.DEFAULT)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the largest image (default: all of it)")
    args = parser.parse_args()
    print(f"{args.model}, limits of {Limits.cpu_seconds:g} CPU seconds and {Limits.memory >> 20} MiB\n")
    print("| request | megapixels | sent, MB | answer, MB | status | CPU seconds | memory of the worker, MiB |")
    print("|---|---|---|---|---|---|---|")
    with running(args.model) as service:
        for name, image in largest(args.scale).items():
            body = png(image)
            for path in ("encode?quality=100", "decode?format=png"):
                worker = Worker(service.process.pid)
                worker.start()
                answer = httpx.post(f"{service.url}/{path}", content=body, timeout=None)
                worker.ended.set()
                worker.join()
                print(
                    f"| {path.partition('?')[0]} {name} | {image[..., 0].size / 1e6:.1f} | {len(body) / 1e6:.1f} | "
                    f"{len(answer.content) / 1e6:.1f} | {answer.status_code} | {worker.seconds:.1f} | {worker.memory:.0f} |",
                    flush=True,
                )
                if answer.status_code != 200:
                    break
                body = answer.content


if __name__ == "__main__":
    main()
