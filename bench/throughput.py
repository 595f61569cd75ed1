"""Images a second on one core: a model, and AVIF, WebP and JPEG by Pillow, in turns in one process with one thread.

    python -m bench.throughput [--model MODEL] [--quality 50] [--rounds 5] [--data FOLDER]

From pixels to files and back, 768x512, in CPU time. Each codec of Pillow has the quality whose file is nearest in size to the
model's; "x" is how many times as fast as the model it is, round by round. The last table has the parts of a request to the
HTTP service. Without --data the photos are two of scikit-image's.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from bench.codec_speed import photos, stages, use_threads

# Pillow's options; the encoders' speeds are Pillow's defaults.
PILLOW = {
    "AVIF": {"format": "AVIF", "max_threads": 1, "subsampling": "4:2:0"},
    "WebP": {"format": "WEBP", "method": 4},
    "JPEG": {"format": "JPEG"},
}


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def pillow_encoder(image: np.ndarray, size: int, options: Mapping[str, object]) -> Callable[[], bytes]:
    """A function that encodes an (H, W, 3) uint8 image to a file as near to `size` bytes as a quality of 1 to 95 gets."""
    from PIL import Image

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, quality=quality, **options)
        return file.getvalue()

    low, high = 1, 95
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(encode(middle)) > size else (middle, high)
    quality = min((low, high), key=lambda quality: abs(len(encode(quality)) - size))
    return lambda: encode(quality)


def decoder(file: bytes) -> Callable[[], np.ndarray]:
    """A function that decodes a file with Pillow."""
    from PIL import Image

    return lambda: np.asarray(Image.open(io.BytesIO(file)))


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

    import jnd_jax
    from jnd_jax import images, modelfile
    from jnd_jax.serving.service.negotiation import DECODED, GATEWAY

    model, codec = modelfile.load(modelfile.find(args.model)), jnd_jax.load(args.model)
    taken: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    parts: dict[str, list[float]] = {}
    for image in photos(args.data):
        ours = codec.encode(image, args.quality)
        encoders: dict[str, Callable[[], bytes]] = {codec.name: lambda: codec.encode(image, args.quality)}
        for name, options in PILLOW.items():
            encoders[name] = pillow_encoder(image, len(ours), options)
        files = {name: encode() for name, encode in encoders.items()}
        work: dict[str, Callable[[], object]] = {f"encode {name}": encode for name, encode in encoders.items()}
        for name, file in files.items():
            work[f"decode {name}"] = (lambda: codec.decode(ours)) if name == codec.name else decoder(file)
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
