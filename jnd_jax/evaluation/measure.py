"""Measuring codecs on images: points of their curves, files for the viewer.

Every measurement is appended to the results as it comes; what is there is not measured again.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import metrics, search
from jnd_jax.codecs import Codec
from jnd_jax.devices import spread
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page
from jnd_jax.evaluation.results import Results, TestImage, finite
from jnd_jax.images import read_rgb


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def _decode_checked(codec: Codec, data: bytes, image: np.ndarray) -> np.ndarray:
    decoded = codec.decode(data)
    if decoded.shape != image.shape or decoded.dtype != np.uint8:
        raise JndError(
            f"{codec.name} decodes a {image.shape} image to {decoded.dtype} {decoded.shape}: repair it "
            "before comparing it"
        )
    return decoded


class _Warmup:
    """Learned codecs compile for each new image size; that is kept out of their times."""

    def __init__(self) -> None:
        self._done: set[tuple] = set()
        self._lock = threading.Lock()

    def __call__(self, codec: Codec, image: np.ndarray) -> None:
        with self._lock:
            if codec.learned and (codec.name, image.shape) not in self._done:
                codec.decode(codec.encode(image, codec.grid[0]))
                self._done.add((codec.name, image.shape))


class _Stopped(Exception):
    pass


def _until(stop: threading.Event, codec: Codec) -> Codec:
    """The codec, which encodes nothing more once `stop` is set."""

    def encode(image: np.ndarray, quality: float) -> bytes:
        if stop.is_set():
            raise _Stopped
        return codec.encode(image, quality)

    return dataclasses.replace(codec, encode=encode)


@contextmanager
def _on_interrupt(function: Callable[[], None]) -> Iterator[None]:
    """Calls `function` at Ctrl-C, before the threads are waited for. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        function()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def measure_points(
    codec: Codec,
    image: TestImage,
    pixels: np.ndarray,
    names: Sequence[str],
    results: Results,
    warm_up: Callable[[Codec, np.ndarray], None] = lambda codec, image: None,
    workers: int = 1,
) -> None:
    """Adds the missing points of one codec's grid on one image, of which `workers` are measured at once."""
    for quality in codec.grid:
        known = results.get("point", codec.name, codec.version, image.digest, float(quality))
        missing = [name for name in names if known is None or name not in known["metrics"]]
        if not missing:
            continue
        warm_up(codec, pixels)
        data, encode_s = _timed(codec.encode, pixels, quality)
        decoded, decode_s = _timed(_decode_checked, codec, data, pixels)
        results.append(
            {
                "kind": "point",
                "codec": codec.name,
                "version": codec.version,
                "image": image.name,
                "digest": image.digest,
                "quality": float(quality),
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "bytes": len(data),
                "bpp": len(data) * 8 / (pixels.shape[0] * pixels.shape[1]),
                "encode_s": round(encode_s, 5),
                "decode_s": round(decode_s, 5),
                "workers": workers,
                "metrics": {name: finite(metrics.measure(name, pixels, decoded)) for name in missing},
            }
        )


def make_view(codec: Codec, image: TestImage, pixels: np.ndarray, bpp: float, folder: Path, results: Results) -> None:
    """Adds, unless it is there, the best file of at most `bpp`, written to `folder` in a form browsers can
    show.
    """
    budget = int(bpp * pixels.shape[0] * pixels.shape[1] / 8)
    known = results.get("view", codec.name, codec.version, image.digest, budget)
    if known is not None and (known["file"] is None or (folder / known["file"]).exists()):
        return
    record = {
        "kind": "view",
        "codec": codec.name,
        "version": codec.version,
        "image": image.name,
        "digest": image.digest,
        "budget": budget,
    }
    try:
        found = search.largest_within(lambda q: codec.encode(pixels, q), budget, codec.qualities, 0.01 * budget)
    except search.OutOfReach:
        results.append({**record, "file": None})
        return
    suffix = ".bin" if codec.media_type else ".webp"
    path = folder / f"{image.name}-{image.digest[:6]}.{codec.name}-{codec.version[:6]}.{budget}{suffix}"
    if codec.media_type:
        path.write_bytes(found.data)
    else:
        path.write_bytes(page.lossless(_decode_checked(codec, found.data, pixels)))
    results.append(
        {
            **record,
            "quality": found.quality,
            "bytes": len(found.data),
            "file": path.name,
            "media_type": codec.media_type or "image/webp",
        }
    )


def evaluate(
    codecs: Sequence[Codec],
    images: Sequence[TestImage],
    names: Sequence[str],
    results: Results,
    *,
    viewer: Sequence[str] = (),
    viewer_bpp: float = 0.5,
    viewer_folder: Path | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Measures whatever `results` lacks.

    Args:
        codecs: under test, each name once.
        images: test images.
        names: metrics.
        results: where records are looked up and added.
        viewer: names of the images that get files for the viewer.
        viewer_bpp: bits per pixel of these files.
        viewer_folder: where these files go.
        workers: images in parallel, see `devices.spread`.
        progress: called with a line after each image and codec.

    Ctrl-C ends it as soon as the encodes and measurements that have begun are through.
    """
    warm_up, stop = _Warmup(), threading.Event()
    stoppable = [_until(stop, codec) for codec in codecs]
    done, total = itertools.count(1), len(codecs) * len(images)

    def one_image(image: TestImage) -> None:
        pixels = read_rgb(image.path)
        for codec in stoppable:
            measure_points(codec, image, pixels, names, results, warm_up, workers)
            if image.name in viewer and viewer_folder is not None:
                make_view(codec, image, pixels, viewer_bpp, viewer_folder, results)
            progress(f"{next(done)} of {total}  {image.name} {codec.name}")

    with _on_interrupt(stop.set):
        for _ in spread(one_image, images, workers):
            pass
