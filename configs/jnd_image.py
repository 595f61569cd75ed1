"""`jnd-base-7` fine-tuned with the image-wise JND loss: within an image's budget of JNDs only its rate counts.

The budget follows the quality, 3 JND at the lowest to .25 at the highest; the error is masked DCT error.

jnd-jax targets photos/ -o set/ --codec jnd-base-7 --metric psnr-hvs
python train.py --config configs/jnd_image.py --workdir runs/jnd_image --config.data.path=set/Ref --config.data.jnd_path=set/JND1
Result: 8 minutes on one CPU core, from `jnd-base-1`; Kodak BD-rate against the control -10.7 % by SSIMULACRA2, -11.8 % by Butteraugli, as
without the budget (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_arms


def get_config() -> ConfigDict:
    return jnd_arms.get_config("masked-hinge")
