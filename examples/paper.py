"""The JND paper's experiment in small: trains the arms of configs/paper.py on pairs of images, and prints their table.

    jnd-jax targets photos/ -o set/ --codec jpeg --metric psnr-hvs     # or any folder with Ref/ and JND1/
    python -m examples.paper --data set/ --workdir runs/paper [--weights mbt2018-mean-4.pth.tar]

The arms start from CompressAI's weights (reading them needs torch) or a model of this package. The table has rate and PSNR on
the held-out images, by the same estimate for all, and the change of the rate against the control. The paper's own table
cannot be reproduced: its data set, test images and lambdas are not public, and its codec, cheng2020-anchor, has a serial
context model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import mbt2018_mean, paper
from jnd_jax import codec, modelfile
from jnd_jax.codec.hyperprior import from_compressai
from jnd_jax.errors import JndError
from jnd_jax.training.commandline import fail
from jnd_jax.training.log import read_metrics
from jnd_jax.training.loop import train_and_evaluate
from jnd_jax.training.packaging import export_model


def start(weights: str, workdir: Path) -> tuple[dict[str, Any], str]:
    """The model that the arms start from: its config, and its name or file."""
    if not weights.endswith((".pth", ".tar")):
        return modelfile.load(modelfile.find(weights)).config, weights
    config, params = from_compressai(Path(weights), "mbt2018-mean")
    file = workdir / "start.safetensors"
    export_model(params, file, codec.build(config))
    return config, str(file)


def train(arm: str, model: dict[str, Any], init_from: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of an arm on the held-out images, after it has been trained."""
    config = paper.get_config(arm)
    config.data.update(path=str(args.data / "Ref"), jnd_path=str(args.data / "JND1"), crop=args.crop, batch=args.batch)
    config.model = ConfigDict(model)
    config.train.update(steps=args.steps, init_from=init_from)
    train_and_evaluate(config, args.workdir / arm)
    return [line for line in read_metrics(args.workdir / arm) if line["kind"] == "eval"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with Ref/ and JND1/")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument(
        "--weights",
        default="jnd-base-7",
        help="CompressAI's mbt2018-mean, or a model of this package by name or file (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--arms", nargs="+", choices=paper.ARMS, default=list(paper.ARMS))
    args = parser.parse_args()
    try:
        args.workdir.mkdir(parents=True, exist_ok=True)
        model, init_from = start(args.weights, args.workdir)
        rows = {arm: train(arm, model, init_from, args) for arm in args.arms}
    except (JndError, OSError) as error:
        fail("paper.py", error)
    control = rows.get("BASE-FT", next(iter(rows.values())))[f"bpp_q{mbt2018_mean.QUALITY}"]
    print("| arm | bpp | PSNR | rate |\n|---|---|---|---|")
    for arm, row in rows.items():
        bpp, psnr = row[f"bpp_q{mbt2018_mean.QUALITY}"], row[f"psnr_q{mbt2018_mean.QUALITY}"]
        print(f"| {arm} | {bpp:.4f} | {psnr:.2f} | {bpp / control - 1:+.1%} |")


if __name__ == "__main__":
    main()
