"""The default model trained on: transforms and entropy model together, with the loss that weighs what people see.

It keeps its learning rate: a run to go on with whenever there is time. A branch of it whose learning rate falls
(`train.branch_from`, `train.decay_from_step`) is what ships. Its analysis is larger than that of `base.py`, which
costs nothing when files are decoded, and it rounds by visible errors, as the encoder then does. Smooth crops, strong colours and
hard edges count more than in `base.py`. It begins where the shipped model stands.

python train.py --config configs/jnd_perceptual.py --workdir runs/trunk --config.data.path=photos/,cid22/
Result: jnd-perceptual-7, after 1520 steps on one CPU core and 11,432 on a GPU (without `data.draw`); the entropy model alone was
trained in between. The synthesis network of jnd-perceptual-8 was then trained alone (`jnd_jax.training.synthesis`), and how jnd-perceptual-9
codes hyper-latents (`jnd_jax.training.hyper_context`). jnd-perceptual-10 is that, with the last activation of its synthesis kept from
noise (`jnd_jax.training.one_sided`). With `data.draw` a run at 2e-3 on a GPU broke. See docs/training-log.md for each.
"""

from ml_collections import ConfigDict

from configs import base
from jnd_jax import losses

_STEPS = 100_000


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.update(analysis_depths=(2, 20), masked_share=0.95)
    config.data.update(saturate=0.2, draw=0.2)
    config.loss = ConfigDict(
        losses.settings("rate_distortion", distance={"cvvdp": 0.35, "masked-dct": 0.6, "mse": 0.05})
    )
    config.train.update(
        steps=0,
        stages=((_STEPS, 128, 16),),
        learning_rate=1.5e-3,
        power=0.5,
        decay_from_step=_STEPS,
        init_from="jnd-perceptual-10",
    )
    config.eval.every = 1000
    return config
