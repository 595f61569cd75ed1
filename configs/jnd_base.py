"""The control of the shipped models from scratch: squared error, an hour of one CPU core.

The transforms of the shipped `jnd-base-2` were trained so, with an entropy model of two passes; the training log says how
its ten passes were trained after them.

python train.py --config configs/jnd_base.py --workdir runs/jnd_base --config.data.path=photos/,cid22/
Result: with the entropy model of that time 70 minutes on one CPU core and validation score 9.45 (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.train.update(steps=0, stages=((2800, 128, 16), (1000, 256, 4)), decay_from_step=2200)
    config.eval.every = 250
    return config
