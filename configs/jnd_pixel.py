"""`jnd-base` fine-tuned with the pixel-wise JND loss: its target is the just-noticeable image.

jnd-jax targets photos/ -o set/
python train.py --config configs/jnd_pixel.py --workdir runs/jnd_pixel --config.data.path=set/Ref --config.data.jnd_path=set/JND1 --config.train.init_from=jnd-base
Result: not run.
"""
from ml_collections import ConfigDict

from configs import base_finetune


def get_config() -> ConfigDict:
    config = base_finetune.get_config()
    config.loss = ConfigDict(dict(name="pixel_wise", distance="mse"))
    return config
