"""The bulk job on one worker beside the same work in one process: CPU time of an image, with everything that Ray runs.

    python -m bench.bulk_speed [--model MODEL] [--images 400] [--size 256x192] [--rounds 3]

Both encode the same images to the same files, with one thread, in turns. CPU time is the user and system time of all
processes over the last three quarters of the images: what starting and compiling take is not counted. Memory is what the
driver's grew by over them. Needs the packages of `pip install 'jnd-jax[dev]'`.
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

import psutil

from examples import encode_store
from tests.serving import kill


def alone(photos: Path, store: Path, model: str, first: int) -> float:
    """CPU seconds an image of a loop in this process, after the `first` images."""
    settings, start = {"model": model, "quality": 50.0, "coder": "constriction"}, 0.0
    pairs = encode_store.plan([str(photos)])
    for number, (source, name) in enumerate(pairs):
        if number == first:
            start = time.process_time()
        encode_store.encode(source, str(store), name, settings, None)
    return (time.process_time() - start) / (len(pairs) - first)


def job(photos: Path, store: Path, model: str, first: int, images: int) -> tuple[float, float]:
    """CPU seconds an image of the job, and MiB by which its driver grew, after the `first` of its images."""
    script = Path(encode_store.__file__)
    command = [sys.executable, script, photos, "-o", store, "--model", model, "--workers", "1"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=script.parents[1])
    driver, used, marks = psutil.Process(started.pid), {}, []
    for count in (first, images):
        while len(kill.lines(store)) < count and started.poll() is None:
            time.sleep(0.05)
        for each in (driver, *driver.children(recursive=True)):
            times = each.cpu_times()
            used[each.pid] = times.user + times.system
        marks.append((len(kill.lines(store)), sum(used.values()), driver.memory_info().rss / 2**20))
    started.wait()
    (done, seconds, size), (all_done, all_seconds, last_size) = marks
    return (all_seconds - seconds) / (all_done - done), last_size - size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(kill.MODEL), help="(default: that of the tests)")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", default="256x192", metavar="WxH", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ.update(encode_store.ONE_THREAD)
    first, loops, jobs, grown = args.images // 4, [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kill.write_images(folder / "photos", args.images, tuple(map(int, args.size.split("x"))))
        for turn in range(args.rounds):
            loops.append(alone(folder / "photos", folder / f"loop{turn}", args.model, first))
            seconds, more = job(folder / "photos", folder / f"job{turn}", args.model, first, args.images)
            jobs.append(seconds)
            grown.append(more)
    ratio = statistics.median(b / a for a, b in zip(loops, jobs))
    print(f"{args.images} images of {args.size}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print("| | CPU ms an image | images a second and core |\n|---|---|---|")
    for name, seconds in (("one process", loops), ("the job", jobs)):
        print(f"| {name} | {1e3 * statistics.median(seconds):.1f} | {1 / statistics.median(seconds):.1f} |")
    print(f"\nThe job takes {ratio - 1:+.1%}; its driver grew by {max(grown):.1f} MiB at most.")


if __name__ == "__main__":
    main()
