"""mbt2018-mean trained with the JND losses: any arm of configs/jnd_arms.py.

python train.py --config configs/mbt2018_mean_jnd.py:masked --workdir runs/mbt_masked --config.data.path=photos/
Result: not run.
"""

from ml_collections import ConfigDict

from configs import jnd_arms, mbt2018_mean


def get_config(arm: str = "masked") -> ConfigDict:
    config = mbt2018_mean.get_config()
    config.loss = ConfigDict(jnd_arms.ARMS[arm])
    return config
