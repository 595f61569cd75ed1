"""Time to encode and decode a photo: a jnd model, AVIF at its best (`avif10`), and CompressAI's mbt2018-mean (N=128, M=192).

    python bench/codec_speed.py --torch-python PATH_OF_A_PYTHON_WITH_COMPRESSAI [--data FOLDER] [--threads 2]

All on the CPU, in turns, on the same cores, warm, from uint8 pixels to bytes and back, entropy coding included. AVIF has
about as many bytes, and uses one thread, so that --threads 1 compares with it evenly. CompressAI's weights are random: its
time does not depend on them much. Without --data the photos are two that scikit-image ships, resized to 768x512 and 512x768;
with it, the folder's first photo of each orientation.
"""

from __future__ import annotations

import argparse
import bisect
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np


def photos(folder: str | None) -> list[np.ndarray]:
    """A landscape and a portrait photo, (H, W, 3) uint8."""
    from PIL import Image

    if folder:
        images = (np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(folder).iterdir()))
        by_orientation = {}
        for image in images:
            by_orientation.setdefault(image.shape[1] >= image.shape[0], image)
            if len(by_orientation) == 2:
                break
        return [by_orientation[landscape] for landscape in sorted(by_orientation, reverse=True)]
    import skimage.data

    resize = lambda image, size: np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    return [resize(skimage.data.coffee(), (768, 512)), resize(skimage.data.astronaut(), (512, 768))]


def use_threads(threads: int) -> None:
    """Keeps this process, whose array libraries are not yet imported, to so many cores and threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def in_turns(work: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of `work`, which gives its own, by round; a round before them warms up."""
    found = [{name: one() for name, one in work.items()} for _ in range(rounds + 1)]
    return {name: [times[name] for times in found[1:]] for name in work}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve_compressai(images: str, threads: int) -> None:
    """The subprocess: for each line "encode|decode INDEX" on stdin does it and answers its seconds."""
    import torch
    from compressai.models import MeanScaleHyperprior

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = MeanScaleHyperprior(128, 192).eval()
    model.update(force=True)
    loaded = list(np.load(images).values())
    streams = {}

    def encode(index: int) -> None:
        x = torch.from_numpy(loaded[index]).permute(2, 0, 1)[None].float() / 255
        streams[index] = model.compress(x)

    def decode(index: int) -> None:
        x_hat = model.decompress(**streams[index])["x_hat"]
        (255 * x_hat[0]).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    with torch.no_grad():
        for line in sys.stdin:
            what, index = line.split()
            print(seconds(lambda: (encode if what == "encode" else decode)(int(index))), flush=True)


class CompressAI:
    """The other codec, in its own process."""

    def __init__(self, python: str, images: list[np.ndarray], threads: int):
        with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
            np.savez(file, *images)
        self._process = subprocess.Popen(
            [python, __file__, "--serve", file.name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def seconds(self, what: str, index: int) -> float:
        """Seconds of one "encode" or "decode" of image `index`."""
        self._process.stdin.write(f"{what} {index}\n")
        return float(self._process.stdout.readline())


def stages(model, codec, image: np.ndarray, quality: float) -> dict[str, Callable[[], object]]:
    """The parts of encoding and decoding, each as a function to time."""
    from jnd_jax import bitstream
    from jnd_jax.codec import coding

    level = round(10 * quality)
    latents = coding.latent_coder(model.params, model.tables)
    header, chunks = bitstream.unpack(codec.encode(image, quality))
    decoded = codec.decode_latents(header, chunks)
    y = codec.analyse(image, level)
    z = latents.hyper_latents(y)
    return {
        "encode: analysis, correction": lambda: codec.analyse(image, level),
        "encode: hyper-analysis": lambda: latents.hyper_latents(y),
        "encode: hyper-synthesis, range coder": lambda: (latents.encode_z(z, level), latents.encode_y(y, z, level)),
        "decode: hyper-synthesis, range coder": lambda: list(
            latents.decode_strips(chunks["y"], coding.z_of_file(latents, header, chunks), level, header.coder)
        ),
        "decode: synthesis": lambda: codec.synthesise(decoded.y_hat, level),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-base")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--data", metavar="FOLDER", help="photos to take instead of scikit-image's")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-python", help="a Python in which compressai can be imported")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_threads(args.threads)
    if args.serve:
        return serve_compressai(args.serve, args.threads)

    import jnd_jax
    from jnd_jax import codecs, modelfile

    images, avif = photos(args.data), codecs.lookup("avif10")
    model, codec = modelfile.load(modelfile.find(args.model)), jnd_jax.load(args.model)
    other = CompressAI(args.torch_python, images, args.threads) if args.torch_python else None
    print(
        f"{args.model} at quality {args.quality:g}, {args.threads} threads, median of {args.rounds} rounds, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for index, image in enumerate(images):
        data = codec.encode(image, args.quality)
        alike = bisect.bisect_left(range(99), len(data), key=lambda quality: len(avif.encode(image, quality)))
        theirs = avif.encode(image, alike)
        print(f"{image.shape[1]}x{image.shape[0]}, {len(data)} bytes, {avif.title} {len(theirs)}")
        ours = {"encode": lambda: codec.encode(image, args.quality), "decode": lambda: codec.decode(data)}
        of_avif = {"encode": lambda: avif.encode(image, alike), "decode": lambda: avif.decode(theirs)}
        for what in ours:
            work = {"": partial(seconds, ours[what]), avif.title: partial(seconds, of_avif[what])}
            if other:
                work["CompressAI"] = partial(other.seconds, what, index)
            times = in_turns(work, args.rounds)
            mine = times.pop("")
            ratios = [
                f"{name} {statistics.median(theirs):.3f} s, {statistics.median(map(operator.truediv, theirs, mine)):.2f} x"
                for name, theirs in times.items()
            ]
            print(f"  {what:38} {statistics.median(mine):7.3f} s    {'    '.join(ratios)}")
        for name, work in stages(model, codec, image, args.quality).items():
            work()
            print(f"  {name:38} {statistics.median(seconds(work) for _ in range(args.rounds)):7.3f} s")


if __name__ == "__main__":
    main()
