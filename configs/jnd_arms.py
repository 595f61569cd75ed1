"""The arms of the JND experiment: `jnd-base-7` trained on for the same steps on the same crops, each with one other loss.

jnd-jax targets photos/ -o set/ --codec jnd-base-7 --metric psnr-hvs
python train.py --config configs/jnd_arms.py:control --workdir runs/arms/control --config.data.path=set/Ref --config.data.jnd_path=set/JND1
(and so on for every arm). Judge none by PSNR-HVS: the just-noticeable images were searched with it.
Result: all arms but the last three trained from `jnd-base-1`, with its two passes, 400 steps each, 7 to 11 minutes on one CPU core;
judged on Kodak and the CID22 validation set in docs/training-log.md. `control`, `masked`, `jod-masked` and `jod-budget` trained from
`jnd-base-4` for 200 steps, 8 to 16 minutes of CPU time; judged on Kodak there. Judge the three of CVVDP by SSIMULACRA2, MS-SSIM and
Butteraugli; `jod` has not been run.
"""

from ml_collections import ConfigDict

from configs import base_finetune
from jnd_jax import losses

_MASKED = {"masked-dct": 0.95, "mse": 0.05}

ARMS = {
    "control": losses.settings("rate_distortion"),
    "control-2": losses.settings("rate_distortion"),  # another seed: their difference is the noise floor
    "pixel": losses.settings("pixel_wise"),
    "pixel-threshold": losses.settings("pixel_wise_threshold"),
    "image": losses.settings("image_wise"),
    "image-hinge": losses.settings("image_wise_hinge"),
    "feature": losses.settings("feature_wise"),
    "feature-jnd": losses.settings("feature_wise_jnd"),
    "combined": losses.settings(
        "combine",
        balance=True,
        terms=tuple(losses.settings(name) for name in ("pixel_wise", "image_wise_hinge", "feature_wise_jnd")),
        term_weights=(1.0, 1.0, 1.0),
    ),
    "masked": losses.settings("rate_distortion", distance=_MASKED),
    "masked-hinge": losses.settings("image_wise_hinge", distance=_MASKED),
    "masked-feature": losses.settings("feature_wise_jnd", distance=_MASKED),
    "jod": losses.settings("rate_distortion", distance={"cvvdp": 0.95, "mse": 0.05}),
    "jod-masked": losses.settings("rate_distortion", distance={"cvvdp": 0.5, "masked-dct": 0.45, "mse": 0.05}),
    "jod-budget": losses.settings("jod_budget", distance={"masked-dct": 0.45, "mse": 0.05}, weight=0.5),
}


def get_config(arm: str = "control") -> ConfigDict:
    config = base_finetune.get_config()
    config.seed = int(arm == "control-2")
    config.train.init_from = "jnd-base-7"
    config.loss = ConfigDict(ARMS[arm])
    config.eval.every = 0
    return config
