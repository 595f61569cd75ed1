"""`jnd-base-7` fine-tuned with the feature-wise JND loss: activations of EfficientNet-Lite0, counted in JNDs.

jnd-jax targets photos/ -o set/ --codec jnd-base-7 --metric psnr-hvs
python train.py --config configs/jnd_feature.py --workdir runs/jnd_feature --config.data.path=set/Ref --config.data.jnd_path=set/JND1
Result: 10 minutes on one CPU core, from `jnd-base-1`; Kodak BD-rate against the control -2.1 % by SSIMULACRA2, -3.3 % by Butteraugli
(docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_arms


def get_config() -> ConfigDict:
    return jnd_arms.get_config("feature-jnd")
