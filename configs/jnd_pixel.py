"""`jnd-base-7` fine-tuned with the pixel-wise JND loss: its target is the just-noticeable image.

jnd-jax targets photos/ -o set/ --codec jnd-base-7 --metric psnr-hvs
python train.py --config configs/jnd_pixel.py --workdir runs/jnd_pixel --config.data.path=set/Ref --config.data.jnd_path=set/JND1
Result: 8 minutes on one CPU core, from `jnd-base-1`; Kodak BD-rate against the control -2.3 % by SSIMULACRA2, -5.1 % by Butteraugli
(docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_arms


def get_config() -> ConfigDict:
    return jnd_arms.get_config("pixel")
