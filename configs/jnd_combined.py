"""`jnd-base` fine-tuned to put its error where it is seen least: masked DCT error, with a little squared error.

Needs no just-noticeable images. Its family is that of PSNR-HVS: judge it by SSIMULACRA2, MS-SSIM and Butteraugli.

python train.py --config configs/jnd_combined.py --workdir runs/jnd_combined --config.data.path=photos/ --config.train.init_from=jnd-base
Result: not run.
"""
from ml_collections import ConfigDict

from configs import base_finetune


def get_config() -> ConfigDict:
    config = base_finetune.get_config()
    config.loss = ConfigDict(dict(name="rate_distortion", distance={"masked-dct": 0.95, "mse": 0.05}))
    return config
