"""`jnd-base` fine-tuned with the image-wise JND loss: within an image's budget of JNDs only its rate counts.

The budget follows the quality, 3 JND at the lowest to .25 at the highest.

jnd-jax targets photos/ -o set/
python train.py --config configs/jnd_image.py --workdir runs/jnd_image --config.data.path=set/Ref --config.data.jnd_path=set/JND1 --config.train.init_from=jnd-base
Result: not run.
"""
from ml_collections import ConfigDict

from configs import base_finetune


def get_config() -> ConfigDict:
    config = base_finetune.get_config()
    config.loss = ConfigDict(dict(name="image_wise_hinge", distance="masked-dct", jnds=0.0))
    return config
