"""`jnd-base-7` fine-tuned with the three JND losses together, each pulling equally hard: pixel-, image- and feature-wise.

jnd-jax targets photos/ -o set/ --codec jnd-base-7 --metric psnr-hvs
python train.py --config configs/jnd_combined.py --workdir runs/jnd_combined --config.data.path=set/Ref --config.data.jnd_path=set/JND1
Result: 11 minutes on one CPU core, from `jnd-base-1`, as the arm `combined` of configs/jnd_arms.py (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_arms


def get_config() -> ConfigDict:
    return jnd_arms.get_config("combined")
