"""The arms of the JND paper (Pakdaman, Nami, Gabbouj, ICIP 2024) in small: a codec fine-tuned with each of its losses.

The settings are those of the paper's training script: Adam 1e-4, batch 16, crops of 256, gradients clipped at 1, lambda .0130
(CompressAI's quality 4; 436 of this package). BASE-FT, the control, has the same data and steps and no just-noticeable images.

python -m examples.paper --data set/ --workdir runs/paper [--weights mbt2018-mean-4.pth.tar]
trains all arms and prints their table; python train.py --config configs/paper.py:PWL --config.train.init_from=MODEL trains one.
FWL takes EfficientNet-Lite0; the paper's VGG16 is loss.network="vgg16" with loss.weights=FILE.
Result: 60 steps in docs/training-log.md; not run at length.
"""

from ml_collections import ConfigDict

from configs import mbt2018_mean
from jnd_jax import losses

ARMS = {
    "BASE-FT": losses.settings("rate_distortion"),
    "PWL": losses.settings("pixel_wise"),
    "IWL": losses.settings("image_wise"),
    "FWL": losses.settings("feature_wise", weight=0.9),
}


def get_config(arm: str = "BASE-FT") -> ConfigDict:
    config = mbt2018_mean.get_config()
    config.loss = ConfigDict(ARMS[arm])
    config.data.update(batch=16, downscale=0.0)
    config.train.update(steps=2_000, warmup=20, decay=0.5, clip=1.0)
    config.eval.every = 0
    return config
