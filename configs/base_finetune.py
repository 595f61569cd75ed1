"""The control of every JND experiment: `jnd-base-7` trained on with its own loss, for as long as the other arms.

python train.py --config configs/base_finetune.py --workdir runs/base_finetune --config.data.path=photos/ --config.train.init_from=jnd-base-7
Result: 7 minutes on one CPU core, as the arm `control` of configs/jnd_arms.py (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.analysis_depths = (2, 20)  # as in jnd-base-7
    config.train.update(steps=400, learning_rate=1e-3, warmup=20, decay=0.5)
    return config
