"""The JND paper's experiment in small: trains the arms of configs/paper.py on pairs of images, and prints their table.

    jnd-jax targets photos/ -o set/ --codec jnd-base-1 --metric psnr-hvs     # or any folder with Ref/ and JND1/
    python examples/paper.py --data set/ --workdir runs/paper --weights mbt2018-mean-4.pth.tar

The weights are CompressAI's (reading them needs torch), or a model file or workdir of this package; without, the arms start
from random parameters. The table has rate and PSNR on the held-out images, by the same estimate for all, and the change of
the rate against the control. The paper's own table cannot be reproduced: its data set, test images and lambdas are not
public, and its codec, cheng2020-anchor, has a serial context model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from configs import paper
from jnd_jax import codec
from jnd_jax.codec.hyperprior import from_compressai
from jnd_jax.training.log import read_metrics
from jnd_jax.training.loop import train_and_evaluate
from jnd_jax.training.packaging import export_model


def start(weights: Path, workdir: Path) -> str:
    """What the arms start from, as `train.init_from` takes it."""
    if weights.is_dir() or weights.suffix == ".safetensors":
        return str(weights)
    config, params = from_compressai(weights, "mbt2018-mean")
    export_model(params, workdir / "start.safetensors", codec.build(config))
    return str(workdir / "start.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with Ref/ and JND1/")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="CompressAI's mbt2018-mean, or a model of this package")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--arms", nargs="+", choices=paper.ARMS, default=list(paper.ARMS))
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    init_from = start(args.weights, args.workdir) if args.weights else ""
    rows = {}
    for arm in args.arms:
        config = paper.get_config(arm)
        config.data.update(
            path=str(args.data / "Ref"), jnd_path=str(args.data / "JND1"), crop=args.crop, batch=args.batch
        )
        config.train.update(steps=args.steps, init_from=init_from)
        train_and_evaluate(config, args.workdir / arm)
        rows[arm] = [line for line in read_metrics(args.workdir / arm) if line["kind"] == "eval"][-1]
    control = rows.get("BASE-FT", next(iter(rows.values())))["bpp_fixed"]
    print("| arm | bpp | PSNR | rate |\n|---|---|---|---|")
    for arm, row in rows.items():
        change = row["bpp_fixed"] / control - 1
        print(f"| {arm} | {row['bpp_fixed']:.4f} | {row['psnr_fixed']:.2f} | {change:+.1%} |")


if __name__ == "__main__":
    main()
