"""Encodes a large store of images with Ray, on this machine or on a cluster; run again, it does what is left.

    pip install 'jnd-jax[bulk]'
    python examples/encode_store.py photos/ -o store/ --quality 50
    python examples/encode_store.py s3://photos -o s3://store --manifest store.jsonl --address auto   # on a Ray cluster

Both are folders that all nodes see, or whatever fsspec opens (s3:// with s3fs, gs:// with gcsfs, ...). The manifest gets a
line for each file once it is whole in the store: source and file by name, their SHA-256, bytes, model and settings. An image
is done if its line fits: same settings, same source, same file. A task whose worker dies, or whose storage fails, is tried
three times more; it writes the same bytes under the same name. What cannot be encoded is named at the end, and the exit
status is 2. --verify 0.01 reads a hundredth of the files back from the store, decodes them and says how far they are from
their sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import ray

import jnd_jax
from jnd_jax import files, images, modelfile
from jnd_jax.errors import JndError

MANIFEST = "manifest.jsonl"
# Tasks that are handed to Ray ahead of the workers.
AHEAD = 64
# One thread a worker: as many workers as cores do more together than one worker with all of them.
ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "OMP_NUM_THREADS": "1"}


def read(url: str) -> bytes | None:
    """A file's or an object's bytes; None if there is none."""
    system, path = fsspec.core.url_to_fs(url)
    try:
        return system.cat_file(path)
    except FileNotFoundError:
        return None


def write(url: str, data: bytes) -> None:
    """Writes a file or an object, all of it or nothing."""
    system, path = fsspec.core.url_to_fs(url)
    if "file" in system.protocol:
        files.write_bytes(path, data)
    else:  # object stores show no object before it is whole
        system.pipe_file(path, data)


def sha256(data: bytes | None) -> str | None:
    """Of bytes; None if there are none."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def plan(inputs: list[str]) -> list[tuple[str, str]]:
    """(URL of an image, name of its file in the store), folders searched through."""
    found = []
    for url in inputs:
        system, root = fsspec.core.url_to_fs(url)
        if not system.exists(root):
            raise JndError(f"There is no {url}: give images or folders of them.")
        paths = system.find(root) if system.isdir(root) else [root]
        start = PurePosixPath(root) if system.isdir(root) else PurePosixPath(root).parent
        found += [
            (system.unstrip_protocol(path), PurePosixPath(path).relative_to(start))
            for path in sorted(paths)
            if PurePosixPath(path).suffix.lower() in images.READ_SUFFIXES
        ]
    count = Counter(name.with_suffix("") for _, name in found)
    return [
        (url, str(name.with_suffix(".jnd") if count[name.with_suffix("")] == 1 else f"{name}.jnd"))
        for url, name in found
    ]


def encode(
    source: str, store: str, name: str, settings: dict[str, Any], line: dict[str, Any] | None, verify: bool = False
) -> tuple[dict[str, Any], bool, float, float | None]:
    """Writes the file `name` of the store, unless `line` of the manifest says that it is there.

    The line for it, whether it was written, the CPU seconds it took, and with `verify` its PSNR, read back from the store.
    """
    start, target = time.process_time(), f"{store}/{name}"
    data = read(source)
    known = {"source_sha256": sha256(data), **settings}
    written = not (
        line and all(line.get(key) == value for key, value in known.items()) and line["sha256"] == sha256(read(target))
    )
    if data is None:
        raise JndError("The image is gone: have it put back, or leave it out.")
    picture = images.parse_image(data) if written or verify else None
    codec = jnd_jax.load(settings["model"]) if picture else None
    if written:
        how = {name: settings[name] for name in ("quality", "coder", "effort")}
        file = codec.encode(picture.pixels, extras=images.to_chunks(picture), **how)
        write(target, file)
        line = {"source": source, "file": name, "sha256": sha256(file), "bytes": len(file), **known}
    return line, written, time.process_time() - start, _psnr(codec, read(target), picture) if verify else None


def _psnr(codec: Any, file: bytes | None, picture: images.Picture) -> float:
    """Decibels between a stored file and its source."""
    from jnd_jax.metrics.psnr import psnr

    if file is None:
        raise JndError("The file is gone from the store: run the job again.")
    return float(
        psnr(*(x if x.dtype == np.uint8 else images.eight_bits(x) for x in (picture.pixels, codec.decode(file))))
    )


def sampled(name: str, share: float) -> bool:
    """Whether a file is among the `share` that is verified: always the same ones."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < share * 2**32


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each file; a line that was cut off, as the job was, does not count."""
    lines = {}
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        lines[line["file"]] = line
    return lines


class Totals:
    """What the job did, for the report at its end."""

    def __init__(self):
        self.encoded, self.kept, self.bytes, self.cpu, self.start = 0, 0, 0, 0.0, time.monotonic()
        self.failed: list[tuple[str, Exception]] = []
        self.psnr: list[tuple[float, str]] = []

    def add(self, line: dict[str, Any], written: bool, cpu: float, psnr: float | None) -> None:
        self.encoded, self.kept = self.encoded + written, self.kept + (not written)
        self.bytes, self.cpu = self.bytes + line["bytes"], self.cpu + cpu
        if psnr is not None:
            self.psnr.append((psnr, line["file"]))

    def report(self, price: float) -> Iterator[str]:
        """Sentences; `price`: of a core for an hour."""
        yield f"{self.encoded} encoded, {self.kept} kept, {len(self.failed)} failed"
        if self.psnr:
            worst, name = min(self.psnr)
            yield f"{len(self.psnr)} read back: at least {worst:.2f} dB ({name})"
        if self.encoded:
            rate, hours = self.encoded / (time.monotonic() - self.start), self.cpu / self.encoded * 1e6 / 3600
            size = self.bytes / (self.encoded + self.kept)
            yield (
                f"{rate:.1f} images a second; a million such images: {hours:.0f} core hours ({hours * price:.0f} at "
                f"{price:g} an hour), {size * 1e6 / 1e9:.1f} GB"
            )


def results(
    pairs: list[tuple[str, str]], lines: dict[str, dict[str, Any]], args: argparse.Namespace, settings: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """(source, what `encode` returned or raised) of each image, in the order in which they are done."""
    task = ray.remote(max_retries=3, retry_exceptions=[OSError])(encode)
    waiting, pending = iter(pairs), {}
    while True:
        for source, name in waiting:
            verify = sampled(name, args.verify)
            pending[task.remote(source, args.output, name, settings, lines.get(name), verify)] = source
            if len(pending) >= AHEAD:
                break
        if not pending:
            return
        (ready,), _ = ray.wait(list(pending))
        source = pending.pop(ready)
        try:
            yield source, ray.get(ready)
        except (ray.exceptions.RayError, JndError, OSError) as error:
            yield source, error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="IN", help="image files or folders of them, or their URLs")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="a folder or its URL")
    parser.add_argument("--manifest", type=Path, help="a local file (default: manifest.jsonl in a local DIR)")
    parser.add_argument("--model", default="jnd-perceptual", help="name or file of the model (default: %(default)s)")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--coder", default="constriction", help="or tfc, for TensorFlow (default: %(default)s)")
    parser.add_argument("--effort", type=int, default=0, help="0 to 3, see `jnd-jax encode` (default: %(default)s)")
    parser.add_argument("--verify", type=float, default=0.0, metavar="SHARE", help="of the files, to be read back")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour (default: %(default)s)")
    parser.add_argument("--address", help="of a Ray cluster; without it, workers are started here")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="to start here (default: one for each core)"
    )
    args = parser.parse_args()
    args.output = args.output.rstrip("/")
    if args.manifest is None and "://" in args.output:
        parser.error("give --manifest, a local file: object stores do not append to files")
    args.manifest = args.manifest or Path(args.output) / MANIFEST
    if "://" not in args.output:
        args.output = str(Path(args.output).absolute())
    return args


def main() -> int:
    args = arguments()
    pairs = plan(args.inputs)
    digest = modelfile.describe(modelfile.find(args.model))["hash"]
    settings = {"model": args.model, "hash": digest} | {n: getattr(args, n) for n in ("quality", "coder", "effort")}
    lines = read_manifest(args.manifest)
    files.write_bytes(args.manifest, "".join(json.dumps(line) + "\n" for line in lines.values()).encode())

    local = {} if args.address else {"num_cpus": args.workers, "include_dashboard": False}
    os.environ.update(ONE_THREAD)  # Workers started here inherit it; set it on the nodes of a cluster too.
    ray.init(args.address, log_to_driver=False, logging_level="ERROR", **local)
    totals = Totals()
    with args.manifest.open("a") as manifest:
        for source, outcome in results(pairs, lines, args, settings):
            if isinstance(outcome, Exception):
                totals.failed.append((source, outcome))
                continue
            line = outcome[0]
            totals.add(*outcome)
            if line != lines.get(line["file"]):
                manifest.write(json.dumps(line) + "\n")
                manifest.flush()
    ray.shutdown()
    for source, error in totals.failed:
        print(f"{source}: {str(error).splitlines()[-1]}", file=sys.stderr)
    print(*totals.report(args.price), sep="\n")
    return 2 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
