"""A bulk job of which a worker, and then the whole job, is killed, and which is run again: counts of what was done. Linux only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from jnd_jax import zoo

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "golden" / "tiny.safetensors"


def write_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """`count` crops, no two the same, of a photo."""
    photo = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))
    width, height = size
    folder.mkdir()
    for n in range(count):
        top, left = np.random.default_rng(n).integers(0, (photo.shape[0] - height, photo.shape[1] - width))
        Image.fromarray(photo[top : top + height, left : left + width]).save(folder / f"{n:05}.png")


def start(photos: Path, store: Path, model: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            ROOT / "examples" / "encode_store.py",
            photos,
            "-o",
            store,
            "--model",
            model,
            "--workers",
            "2",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def lines(store: Path) -> list[str]:
    manifest = store / "manifest.jsonl"
    return manifest.read_text().splitlines() if manifest.is_file() else []


def worker(job: subprocess.Popen) -> int | None:
    """Process id of a Ray worker of the job that is encoding."""
    parents, encoding = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::encode"):
                encoding.append(int(folder.name))
        except (OSError, ValueError):
            continue
    for process in encoding:
        ancestor = process
        while ancestor in parents and ancestor != job.pid:
            ancestor = parents[ancestor]
        if ancestor == job.pid:
            return process
    return None


def measure(folder: Path, images: int, size: tuple[int, int], model: str) -> dict[str, int]:
    """Runs the job in `folder`, kills one of its workers while it encodes, then the job itself, and runs it again."""
    photos, store = folder / "photos", folder / "store"
    write_images(photos, images, size)
    job, killed = start(photos, store, model), None
    while job.poll() is None and killed is None:
        if len(lines(store)) >= images // 10:
            killed = worker(job)
        time.sleep(0.005)
    if killed:
        os.kill(killed, signal.SIGKILL)
    at_kill = len(lines(store))
    while job.poll() is None and len(lines(store)) < images // 2:
        time.sleep(0.005)
    job.send_signal(signal.SIGTERM)
    job.wait()
    before = {json.loads(line)["file"]: (store / json.loads(line)["file"]).stat().st_mtime_ns for line in lines(store)}
    second = start(photos, store, model)
    said = second.communicate()[0]
    encoded, kept, failed = map(int, re.match(r"(\d+) encoded, (\d+) kept, (\d+) failed\n", said).groups())
    entries = [json.loads(line) for line in lines(store)]
    whole = [
        entry
        for entry in entries
        if hashlib.sha256((store / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    ]
    return {
        "images": images,
        "done when the worker was killed": at_kill,
        "workers killed": int(killed is not None),
        "done when the job was killed": len(before),
        "encoded by the second run": encoded,
        "kept by it": kept,
        "failed": failed,
        "lost": images - len({entry["source"] for entry in whole}),
        "in the manifest twice": sum(count - 1 for count in Counter(e["file"] for e in entries).values()),
        "written again": sum((store / name).stat().st_mtime_ns != stamp for name, stamp in before.items()),
    }


def right(counts: dict[str, int]) -> bool:
    """Whether a worker and the job were killed in the middle, and no image was lost, done twice or done again."""
    images, first = counts["images"], counts["done when the job was killed"]
    return (
        counts["workers killed"] == 1
        and counts["done when the worker was killed"] < images
        and first < images
        and counts["kept by it"] == first
        and counts["encoded by the second run"] == images - first
        and not any(counts[name] for name in ("failed", "lost", "in the manifest twice", "written again"))
    )
