"""The HTTP service under load: latencies by the number of clients, and what becomes of bad requests among many.

    python -m bench.serve_load [--model MODEL] [--clients 1 10 30 100] [--size 256x192] [--hostile 200]

Starts `jnd-jax serve` on loopback. First each number of clients asks for stored pictures, one after another, no picture
twice: what browsers do that meet a cold cache. Then as many post files to decode, and images to encode. Last come `--hostile` requests at once,
with damaged, slow and oversized ones among them (`tests.serving.load`), to a service with smaller limits.
Memory is the resident memory of all its processes, CPU time theirs for each answer that is no 503. Needs the packages of `pip install 'jnd-jax[dev]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image, PngImagePlugin

import jnd_jax
from jnd_jax import bitstream, zoo
from jnd_jax.image_codec import ImageCodec
from tests.serving.load import cases, load

MODEL = Path(__file__).parents[1] / "tests" / "golden" / "tiny.safetensors"
ACCEPT = {"Accept": "image/avif,image/webp,*/*"}
BODY_LIMIT = 1 << 20


class Running:
    """A service that runs: its address, its process, and the most resident memory of all its processes, MiB."""

    def __init__(self, url: str, process: subprocess.Popen):
        self.url, self.process, self.peak = url, process, 0.0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def _look(self) -> None:
        service = psutil.Process(self.process.pid)
        while not self._ended.wait(0.05):
            with contextlib.suppress(psutil.Error):
                processes = [service, *service.children(recursive=True)]
                self.peak = max(self.peak, sum(each.memory_info().rss for each in processes) / 2**20)

    def cpu_seconds(self) -> float:
        """That all its processes have used."""
        service = psutil.Process(self.process.pid)
        used = [each.cpu_times() for each in (service, *service.children(recursive=True))]
        return sum(times.user + times.system for times in used)

    def end(self) -> None:
        self._ended.set()
        self._watch.join()
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def running(model: str, *options: str) -> Iterator[Running]:
    """`jnd-jax serve` with these options, once it is ready."""
    command = [sys.executable, "-m", "jnd_jax.cli", "serve", model, "--port", "0", "--no-access-log", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    service = Running(process.stdout.readline().strip(), process)
    try:
        while httpx.get(f"{service.url}/ready", timeout=60).status_code != 200:
            time.sleep(0.2)
        yield service
    finally:
        service.end()


def distinct_png(image: np.ndarray, numbers: Iterator[int]) -> bytes:
    """An image as a PNG with a comment of its own."""
    comment, file = PngImagePlugin.PngInfo(), io.BytesIO()
    comment.add_text("Comment", str(next(numbers)))
    Image.fromarray(image).save(file, "PNG", pnginfo=comment)
    return file.getvalue()


def distinct(file: bytes, numbers: Iterator[int]) -> bytes:
    """The same .jnd file with a note of its own, so that no answer can come from the service's cache."""
    header, chunks = bitstream.unpack(file)
    return bitstream.pack(header, {**chunks, "note": b"%d" % next(numbers)})


async def measure(url: str, clients: int, requests: list[httpx.Request]) -> tuple[list[float], Counter, float]:
    """Seconds of each answer that is no 503, how often each status came, and the seconds that all took."""
    seconds, statuses, waiting = [], Counter(), iter(requests)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=300, limits=limits) as session:

        async def client() -> None:
            for request in waiting:
                start = time.perf_counter()
                response = await session.send(request)
                statuses[response.status_code] += 1
                if response.status_code != 503:
                    seconds.append(time.perf_counter() - start)

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return seconds, statuses, time.perf_counter() - start


def requests_of(
    kind: str, url: str, store: Path, image: np.ndarray, file: bytes, numbers: Iterator[int], count: int
) -> list[httpx.Request]:
    """`count` requests of a kind, no two the same."""
    if kind == "encode":
        bodies = [distinct_png(image, numbers) for _ in range(count)]
        return [httpx.Request("POST", f"{url}/encode", content=body) for body in bodies]
    files = [distinct(file, numbers) for _ in range(count)]
    if kind == "decode":
        return [httpx.Request("POST", f"{url}/decode", content=data) for data in files]
    names = [f"{next(numbers)}.jnd" for _ in files]
    for name, data in zip(names, files):
        (store / name).write_bytes(data)
    return [httpx.Request("GET", f"{url}/pictures/{name}", headers=ACCEPT) for name in names]


def table(codec: ImageCodec, args: argparse.Namespace, image: np.ndarray) -> None:
    """Prints a row for each kind of request and number of clients."""
    file, numbers = codec.encode(image), itertools.count()
    with tempfile.TemporaryDirectory() as store:
        with running(args.model, "--store", store, "--warm", args.size) as service:
            print(f"{codec.name}, {args.size}, one worker, load {os.getloadavg()[0]:.1f}\n")
            print(
                "| request | clients | sent | 503 | answered a second | p50, s | p95, s | CPU ms an answer | memory, MiB |"
            )
            print("|---|---|---|---|---|---|---|---|---|")
            for kind, clients in itertools.product(("picture", "decode", "encode"), args.clients):
                count = max(20, 2 * clients)
                requests = requests_of(kind, service.url, Path(store), image, file, numbers, count)
                before = service.cpu_seconds()
                seconds, statuses, whole = asyncio.run(measure(service.url, clients, requests))
                used = 1e3 * (service.cpu_seconds() - before) / statuses[200]
                assert set(statuses) <= {200, 503}, statuses
                half, most = np.percentile(seconds, [50, 95])
                print(
                    f"| {kind} | {clients} | {count} | {statuses[503]} | {statuses[200] / whole:.1f} | {half:.2f} | "
                    f"{most:.2f} | {used:.0f} | {service.peak:.0f} |",
                    flush=True,
                )


def hostile(codec: ImageCodec, args: argparse.Namespace, image: np.ndarray) -> bool:
    """Prints what became of each kind of request; whether all was as it should be."""
    expected = cases(codec, image)
    options = ("--patience", str(args.patience), "--max-megabytes", str(BODY_LIMIT / 2**20))
    with running(args.model, *options) as service:
        start = time.perf_counter()
        outcomes = asyncio.run(load(service.url, expected, args.hostile, BODY_LIMIT))
        seconds = time.perf_counter() - start
        alive = httpx.get(f"{service.url}/health").status_code == 200 and service.process.poll() is None
    print("\n| request | sent | answered right | statuses of the last answer | 503 on the way |\n|---|---|---|---|---|")
    for kind in ("decode", "encode", "damaged", "slow", "oversized"):
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        last = dict(Counter(outcome.statuses[-1] for outcome in mine))
        busy = sum(outcome.statuses.count(503) for outcome in mine)
        print(f"| {kind} | {len(mine)} | {sum(outcome.right for outcome in mine)} | {last} | {busy} |")
    right = sum(outcome.right for outcome in outcomes)
    print(
        f"\n{right} of {len(outcomes)} answered right in {seconds:.1f} s; the service {'goes on' if alive else 'is DEAD'}; "
        f"{service.peak:.0f} MiB at most"
    )
    return alive and right == len(outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--size", default="256x192", metavar="WxH", help="of the image (default: %(default)s)")
    parser.add_argument("--hostile", type=int, default=200, metavar="N", help="requests at once (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=3.0, help="of the service with bad clients, s (default: %(default)s)"
    )
    args = parser.parse_args()
    codec = jnd_jax.load(args.model)
    size = tuple(map(int, args.size.split("x")))
    image = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB").resize(size))
    table(codec, args, image)
    return 0 if not args.hostile or hostile(codec, args, image) else 1


if __name__ == "__main__":
    sys.exit(main())
