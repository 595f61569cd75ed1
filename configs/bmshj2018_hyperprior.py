"""bmshj2018-hyperprior at one rate (CompressAI's lambda .0130, its quality 4), for comparison with the literature.

python train.py --config configs/bmshj2018_hyperprior.py --workdir runs/bmshj2018_hyperprior --config.data.path=photos/
Result: not run.
"""

from ml_collections import ConfigDict

from configs import base
from jnd_jax import codec

QUALITY = 436  # lambda .0130


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model = codec.settings("bmshj2018-hyperprior")
    config.data.update(crop=256, batch=8)
    config.train.update(optimizer="adam", betas=(0.9, 0.999), learning_rate=1e-4, steps=1_000_000)
    config.train.quality = (QUALITY, QUALITY)
    config.eval.qualities = (QUALITY,)
    return config
