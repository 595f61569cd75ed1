"""The arms of the JND experiment: `jnd-base` trained on for the same steps on the same crops, each with one other loss.

jnd-jax targets photos/ -o set/ --codec jnd-base --metric psnr-hvs
python train.py --config configs/jnd_arms.py:control --workdir runs/arms/control --config.data.path=set/Ref --config.data.jnd_path=set/JND1
(and so on for every arm). Judge none by PSNR-HVS: the just-noticeable images were searched with it.
Result: all arms trained, 400 steps each, 7 to 11 minutes on one CPU core; judged on Kodak and the CID22 validation set in
docs/training-log.md.
"""

from ml_collections import ConfigDict

from configs import base_finetune

_FEATURES = dict(network="efficientnet-lite0", weights="", blocks=(0, 2, 4))
_MASKED = {"masked-dct": 0.95, "mse": 0.05}

ARMS = {
    "control": dict(name="rate_distortion"),
    "control-2": dict(name="rate_distortion"),  # another seed: their difference is the noise floor
    "pixel": dict(name="pixel_wise"),
    "pixel-threshold": dict(name="pixel_wise_threshold", profile="watson", jnds=1.0),
    "image-hinge": dict(name="image_wise_hinge", distance="mse", jnds=0.0),
    "feature": dict(name="feature_wise", weight=0.9, scale=1.0, **_FEATURES),
    "feature-jnd": dict(name="feature_wise_jnd", weight=0.5, **_FEATURES),
    "combined": dict(
        name="combine",
        balance=True,
        term_weights=(1.0, 1.0, 1.0),
        terms=(
            dict(name="pixel_wise"),
            dict(name="image_wise_hinge", jnds=0.0),
            dict(name="feature_wise_jnd", weight=0.5, **_FEATURES),
        ),
    ),
    "masked": dict(name="rate_distortion", distance=_MASKED),
    "masked-hinge": dict(name="image_wise_hinge", distance=_MASKED, jnds=0.0),
    "masked-feature": dict(name="feature_wise_jnd", distance=_MASKED, weight=0.5, **_FEATURES),
}


def get_config(arm: str = "control") -> ConfigDict:
    config = base_finetune.get_config()
    config.seed = int(arm == "control-2")
    config.train.init_from = "jnd-base"
    config.loss = ConfigDict(ARMS[arm])
    config.eval.every = 0
    return config
