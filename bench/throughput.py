"""Images a second on one core: a model, and AVIF, WebP and JPEG by Pillow and by libvips, in turns in one process.

    pip install 'pyvips[binary]'
    python -m bench.throughput [--model MODEL] [--quality 50] [--rounds 5] [--data FOLDER]

From pixels to files and back, 768x512, in CPU time, with one thread. Each other codec has the quality whose file is nearest
in size to the model's; "x" is how many times as fast as the model it is, round by round. The last table has the parts of a
request to the HTTP service. Without --data the photos are two of scikit-image's; without pyvips its rows are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bench.codec_speed import photos, stages, use_threads

Encode = Callable[[np.ndarray, int], bytes]
Decode = Callable[[bytes], np.ndarray]


def _pillow(**options: object) -> tuple[Encode, Decode]:
    from PIL import Image

    def encode(image: np.ndarray, quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, quality=quality, **options)
        return file.getvalue()

    return encode, lambda file: np.asarray(Image.open(io.BytesIO(file)))


def _libvips(pyvips: Any, suffix: str, **options: object) -> tuple[Encode, Decode]:
    def encode(image: np.ndarray, quality: int) -> bytes:
        return pyvips.Image.new_from_array(image).write_to_buffer(suffix, Q=quality, **options)

    return encode, lambda file: pyvips.Image.new_from_buffer(file, "").numpy()


def others() -> dict[str, tuple[Encode, Decode]]:
    """The other codecs by name, each as its library serves it by default: an encoder at a quality of 1 to 95, a decoder."""
    found = {
        "AVIF, Pillow": _pillow(format="AVIF", max_threads=1, subsampling="4:2:0"),
        "WebP, Pillow": _pillow(format="WEBP"),
        "JPEG, Pillow": _pillow(format="JPEG"),
    }
    with contextlib.suppress(ImportError):
        pyvips = importlib.import_module("pyvips")
        found |= {
            "AVIF, libvips": _libvips(pyvips, ".avif", subsample_mode="on"),
            "WebP, libvips": _libvips(pyvips, ".webp"),
            "JPEG, libvips": _libvips(pyvips, ".jpg"),
        }
    return found


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def of_size(encode: Encode, image: np.ndarray, size: int) -> int:
    """The quality of 1 to 95 whose file of an (H, W, 3) uint8 image is nearest to `size` bytes."""
    low, high = 1, 95
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(encode(image, middle)) > size else (middle, high)
    return min((low, high), key=lambda quality: abs(len(encode(image, quality)) - size))


def timed(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each function in each round, the functions in turns."""
    for function in work.values():
        function()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            taken[name].append(cpu_seconds(function))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--data", metavar="FOLDER", help="photos to take instead of scikit-image's")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    use_threads(1)
    os.environ["VIPS_CONCURRENCY"] = "1"

    import jnd_jax
    from jnd_jax import images, modelfile
    from jnd_jax.serving.service.negotiation import DECODED, GATEWAY

    model, codec = modelfile.load(modelfile.find(args.model)), jnd_jax.load(args.model)
    taken: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    parts: dict[str, list[float]] = {}
    for image in photos(args.data):
        ours = codec.encode(image, args.quality)
        work: dict[str, Callable[[], object]] = {
            f"encode {codec.name}": lambda: codec.encode(image, args.quality),
            f"decode {codec.name}": lambda: codec.decode(ours),
        }
        sizes.setdefault(codec.name, []).append(len(ours))
        for name, (encode, decode) in others().items():
            quality = of_size(encode, image, len(ours))
            file = encode(image, quality)
            work[f"encode {name}"] = partial(encode, image, quality)
            work[f"decode {name}"] = partial(decode, file)
            sizes.setdefault(name, []).append(len(file))
        picture = images.Picture(codec.decode(ours))
        steps: dict[str, Callable[[], object]] = dict(stages(model, codec, image, args.quality))
        for kind, options in {"png": DECODED["png"], "webp": GATEWAY["webp"], "jpg": GATEWAY["jpg"]}.items():
            steps[f"answer: {kind} file"] = lambda kind=kind, options=options: images.format_image(
                picture, f".{kind}", **options
            )
        for found, functions in ((taken, work), (parts, steps)):
            for name, seconds in timed(functions, args.rounds).items():
                found.setdefault(name, []).extend(seconds)
    print(f"{codec.name} at quality {args.quality:g}, one thread, load {os.getloadavg()[0]:.1f}\n")
    print("| codec | bytes | encode, CPU ms | per second and core | x | decode, CPU ms | per second and core | x |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sizes:
        cells = [name, f"{statistics.mean(sizes[name]):.0f}"]
        for what in ("encode", "decode"):
            mine, theirs = taken[f"{what} {codec.name}"], taken[f"{what} {name}"]
            seconds = statistics.median(theirs)
            ratio = statistics.median(a / b for a, b in zip(mine, theirs))
            cells += [f"{1e3 * seconds:.0f}", f"{1 / seconds:.1f}", f"{ratio:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print("\n| part | CPU ms |\n|---|---|")
    for name, seconds in parts.items():
        print(f"| {name} | {1e3 * statistics.median(seconds):.0f} |")


if __name__ == "__main__":
    main()
