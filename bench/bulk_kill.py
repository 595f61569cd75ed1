"""Encodes a store of images while a worker, and then the whole job, is killed; runs it again; counts what was done.

    python -m bench.bulk_kill [--model MODEL] [--images 500] [--size 192x128]

Needs the packages of `pip install 'jnd-jax[bulk]'`, and Linux. Prints counts and exits with 1 if an image is lost, encoded
twice, or encoded again by the second run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.serving.kill import MODEL, measure, right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="(default: that of the tests)")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", default="192x128", metavar="WxH", help="(default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(Path(folder), args.images, tuple(map(int, args.size.split("x"))), args.model)
    for name, count in counts.items():
        print(f"{count:6} {name}")
    return 0 if right(counts) else 1


if __name__ == "__main__":
    sys.exit(main())
