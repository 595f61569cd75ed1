"""Compares models with conventional codecs: the same as `jnd-jax eval`.

python evaluate.py jnd-base --data photos/ --against jpeg,webp,avif,jxl -o comparison/
"""

from __future__ import annotations

import argparse
import sys

from jnd_jax.evaluation import run
from jnd_jax.files import FAILURES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run.add_arguments(parser)
    try:
        return run.run(parser.parse_args())
    except FAILURES as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
