"""The shipped model `jnd-base-1`, as it was trained.

python train.py --config configs/jnd_base_1.py --workdir runs/jnd_base_1 --config.data.path=photos/,cid22/
Result: 70 minutes on one CPU core; validation score 9.45; Kodak BD-rate by PSNR -13.7 % against WebP (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.train.update(stages=((2800, 128, 16), (1000, 256, 4)), decay_from_step=2200)
    config.eval.every = 250
    return config
