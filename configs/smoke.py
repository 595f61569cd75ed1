"""Does everything work? A small model of the default kind, on the photos that scikit-image ships.

python train.py --config configs/smoke.py --workdir runs/smoke
Result: 108 seconds on two CPU cores the first time, most of it compiling, and 41 seconds with what that left in the cache.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    # Most of the time of a short run is compiling, which grows with blocks and groups.
    config.model.update(analysis_depths=(1, 1), synthesis_depths=(1, 1), groups=(64,))
    config.data.batch = 2
    config.train.update(steps=40, warmup=10, optimizer="adam", betas=(0.9, 0.999), learning_rate=1e-3)
    config.eval.update(every=0, images=1, max_size=256, qualities=(200, 500, 800))
    config.log_every = 10
    return config
