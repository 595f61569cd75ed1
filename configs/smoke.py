"""Does everything work? One minute on two CPU cores, on the photos that scikit-image ships.

python train.py --config configs/smoke.py --workdir runs/smoke
Result: 35 seconds on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.batch = 2
    config.train.update(steps=40, warmup=10)
    config.eval.update(every=0, images=2, max_size=256, qualities=(200, 500, 800))
    config.log_every = 10
    return config
