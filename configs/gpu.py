"""The default codec on one node of GPUs: small crops first, large crops last.

python train.py --config configs/gpu.py --workdir runs/gpu --config.data.path=photos/
Result: not run.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.threads = 8
    config.train.update(steps=0, stages=((150_000, 128, 64), (100_000, 256, 32)), ema=0.9995)
    config.log_every = 100
    config.eval.update(every=5_000, images=24)
    return config
