"""The shipped model `jnd-perceptual-3`: `jnd-perceptual-2` with two more bottlenecks in the analysis, trained on with the same loss.

python train.py --config configs/jnd_perceptual_3.py --workdir runs/p3 --config.data.path=photos/,cid22/
python train.py --config configs/jnd_perceptual_3.py:second --workdir runs/jnd_perceptual_3 --config.data.path=photos/,cid22/ --config.train.branch_from=runs/p3
Result: 106 minutes on one CPU core and 23 on two; bits at one JND against `jnd-perceptual-2`: -6.2 % by SSIMULACRA2 and -5.4 % by
Butteraugli on 36 validation photographs, -4.6 % and -3.5 % on Kodak (docs/training-log.md, which says what the first part did otherwise).
"""

from ml_collections import ConfigDict

from configs import jnd_perceptual_2


def get_config(part: str = "first") -> ConfigDict:
    config = jnd_perceptual_2.get_config()
    config.model.analysis_depths = (2, 7)
    if part == "first":
        config.train.update(stages=((6000, 128, 16), (700, 256, 4)), decay_from_step=4000, init_from="jnd-perceptual-2")
    else:
        config.train.update(
            stages=((8500, 128, 16), (200, 256, 4)), learning_rate=1.5e-3, decay_from_step=7000, init_from="", ema=0.995
        )
    return config
