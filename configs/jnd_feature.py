"""`jnd-base` fine-tuned with the feature-wise JND loss: activations of EfficientNet-Lite0, counted in JNDs.

jnd-jax targets photos/ -o set/
python train.py --config configs/jnd_feature.py --workdir runs/jnd_feature --config.data.path=set/Ref --config.data.jnd_path=set/JND1 --config.train.init_from=jnd-base
Result: not run.
"""
from ml_collections import ConfigDict

from configs import base_finetune


def get_config() -> ConfigDict:
    config = base_finetune.get_config()
    config.loss = ConfigDict(dict(
        name="feature_wise_jnd", distance="mse", weight=0.5, network="efficientnet-lite0", weights="", blocks=(0, 2, 4),
    ))
    return config
