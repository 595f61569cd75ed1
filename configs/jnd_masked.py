"""`jnd-base-7` fine-tuned to put its error where it is seen least: masked DCT error, with a little squared error.

Needs no just-noticeable images. Its family is that of PSNR-HVS: judge it by SSIMULACRA2, MS-SSIM and Butteraugli.

python train.py --config configs/jnd_masked.py --workdir runs/jnd_masked --config.data.path=photos/
Result: 7 minutes on one CPU core; Kodak BD-rate against the control -10.5 % by SSIMULACRA2, -11.9 % by Butteraugli
(docs/training-log.md). `jnd-perceptual` mixes it with CVVDP and had more steps.
"""

from ml_collections import ConfigDict

from configs import jnd_arms


def get_config() -> ConfigDict:
    return jnd_arms.get_config("masked")
