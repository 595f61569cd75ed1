"""The shipped model `jnd-perceptual-1`, as it was trained: `jnd-base-1`'s run, from its step 1260 on with another loss.

The error that training weighs is masked DCT error (see `jnd_jax/losses/distances.py`) and a little squared error. Same
seed, steps, crops, qualities and noise: `jnd-base-1` is its control. Judge it by SSIMULACRA2, MS-SSIM and Butteraugli.

python train.py --config configs/jnd_base_1.py --workdir runs/trunk --config.data.path=photos/,cid22/   (stopped at step 1260)
python train.py --config configs/jnd_perceptual_1.py --workdir runs/jnd_perceptual_1 --config.data.path=photos/,cid22/ --config.train.branch_from=runs/trunk
Result: 70 minutes on one CPU core; Kodak bits at one JND against `jnd-base-1`: -18.6 % by SSIMULACRA2, -17.8 % by Butteraugli (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_base_1
from jnd_jax import losses


def get_config() -> ConfigDict:
    config = jnd_base_1.get_config()
    config.loss = ConfigDict(losses.settings("rate_distortion", distance={"masked-dct": 0.95, "mse": 0.05}))
    return config
