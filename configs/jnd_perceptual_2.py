"""The shipped model `jnd-perceptual-2`: `jnd-perceptual-1` with two more bottlenecks in the analysis, trained on with the same loss.

python train.py --config configs/jnd_perceptual_2.py --workdir runs/jnd_perceptual_2 --config.data.path=photos/,cid22/
Result: 74 minutes on one CPU core; bits at one JND against `jnd-perceptual-1`: -4.3 % by SSIMULACRA2 and -5.4 % by Butteraugli on
36 validation photographs, -3.1 % and -3.3 % on Kodak (docs/training-log.md).
"""

from ml_collections import ConfigDict

from configs import jnd_perceptual_1


def get_config() -> ConfigDict:
    config = jnd_perceptual_1.get_config()
    config.model.analysis_depths = (2, 5)
    config.train.update(
        stages=((4300, 128, 16), (700, 256, 4)), learning_rate=2e-3, decay_from_step=2800, init_from="jnd-perceptual-1"
    )
    config.eval.every = 500
    return config
