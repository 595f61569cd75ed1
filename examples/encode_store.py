"""Encodes a large store of images with Ray, on this machine or on a cluster; run again, it does what is left.

    pip install 'jnd-jax[bulk]'
    python examples/encode_store.py photos/ -o store/ --quality 50
    python examples/encode_store.py /mnt/photos -o /mnt/store --address auto      # on the nodes of a Ray cluster

Both folders must be where all nodes see them. `store/manifest.jsonl` gets a line for each file once it is whole on disk:
source and file by name, their SHA-256, bytes, model and settings. An image is done if its line fits: same settings, same
source, same file. A task whose worker dies, or whose storage fails, is tried three times more; it writes the same bytes under
the same name. What cannot be encoded is named at the end, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import ray

import jnd_jax
from jnd_jax import files, images, modelfile
from jnd_jax.errors import JndError

MANIFEST = "manifest.jsonl"
# Tasks that are handed to Ray ahead of the workers.
AHEAD = 64


def sha256(path: Path) -> str | None:
    """Of a file; None if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def encode(
    source: Path, store: Path, name: str, settings: dict[str, Any], line: dict[str, Any] | None
) -> tuple[dict[str, Any], bool]:
    """Writes the file `name` of the store, unless `line` of the manifest says that it is there.

    The line for it, and whether it was written.
    """
    target = store / name
    known = {"source_sha256": sha256(source), **settings}
    if line and all(line.get(key) == value for key, value in known.items()) and line["sha256"] == sha256(target):
        return line, False
    picture, codec = images.read_image(source), jnd_jax.load(settings["model"])
    data = codec.encode(picture.pixels, settings["quality"], extras=images.to_chunks(picture), coder=settings["coder"])
    files.write_bytes(target, data)
    return {
        "source": str(source),
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        **known,
    }, True


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="IN", help="image files or folders of them")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--model", default="jnd-base", help="name or file of the model (default: %(default)s)")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--coder", default="constriction", help="or tfc, for TensorFlow (default: %(default)s)")
    parser.add_argument("--address", help="of a Ray cluster; without it, workers are started here")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="to start here (default: one for each core)"
    )
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    pairs = files.plan(args.inputs, f"{args.output}/", images.READ_SUFFIXES, (".jnd",), ".jnd")
    digest = modelfile.describe(modelfile.find(args.model))["hash"]
    settings = {"model": args.model, "hash": digest, "quality": args.quality, "coder": args.coder}
    manifest = args.output / MANIFEST
    lines = read_manifest(manifest)
    files.write_bytes(manifest, "".join(json.dumps(line) + "\n" for line in lines.values()).encode())

    local = {} if args.address else {"num_cpus": args.workers, "include_dashboard": False}
    ray.init(args.address, log_to_driver=False, logging_level="ERROR", **local)
    task = ray.remote(max_retries=3, retry_exceptions=[OSError])(encode)
    waiting, pending, done, kept, failed = iter(pairs), {}, 0, 0, []
    with manifest.open("a") as file:
        while True:
            for source, target in waiting:
                name = str(target.relative_to(args.output))
                pending[task.remote(source, args.output, name, settings, lines.get(name))] = source, name
                if len(pending) >= AHEAD:
                    break
            if not pending:
                break
            (ready,), _ = ray.wait(list(pending))
            source, name = pending.pop(ready)
            try:
                line, written = ray.get(ready)
            except (ray.exceptions.RayError, JndError, OSError) as error:
                failed.append((source, error))
                continue
            done, kept = done + written, kept + (not written)
            if line != lines.get(name):
                file.write(json.dumps(line) + "\n")
                file.flush()
    ray.shutdown()
    for source, error in failed:
        print(f"{source}: {str(error).splitlines()[-1]}", file=sys.stderr)
    print(f"{done} encoded, {kept} kept, {len(failed)} failed")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
