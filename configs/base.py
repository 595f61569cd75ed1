"""The default codec, one model for all rates.

python train.py --config configs/base.py --workdir runs/base --config.data.path=photos/
Result: not run.
"""

from ml_collections import ConfigDict

from jnd_jax import codec, losses


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            seed=0,
            log_every=20,  # steps between progress lines; also how often several hosts agree on stopping and saving
            model=codec.settings("lapped"),
            loss=losses.settings("rate_distortion"),
            data=dict(
                path="",  # folders, separated by commas; empty: the photos that scikit-image ships
                jnd_path="",  # for each folder one of just-noticeable versions, paired by file name
                cache="",  # decoded images; empty: ~/.cache/jnd_jax
                validation_every=10,  # each tenth file by name validates
                crop=128,
                batch=16,  # global
                flip=0.5,
                rotate=False,
                downscale=0.25,  # chance of a crop at half scale, where the image has the pixels
                saturate=0.0,  # chance of a crop with stronger colours, up to three times
                draw=0.0,  # chance of a crop on which shapes, lines and lettering are drawn
                threads=1,
            ),
            train=dict(
                steps=20_000,
                stages=(),  # (steps, crop, batch) each, in place of steps (then 0), data.crop and data.batch
                optimizer="soap",
                learning_rate=3e-3,
                warmup=100,
                decay=0.15,  # the last fraction of the run, over which the learning rate falls to zero
                decay_from_step=-1,  # in place of `decay`, where it is not negative
                betas=(0.95, 0.95),
                soap_every=10,  # steps between turns of SOAP's eigenbasis, which take long on a GPU
                weight_decay=0.0,  # of adamw and muon
                clip=1.0,
                freeze=(),  # regular expressions on parameter paths
                ema=0.998,
                accumulate=1,
                bfloat16=False,  # the transforms' convolutions compute in it
                remat=False,  # less memory, fewer images a second: see docs/training.md
                quality=(0, 1000),  # drawn per example, both ends included
                lmbda=0.0,  # positive: lambda whatever the quality, for models that ignore quality
                power=1.0,  # of each example's objective; below 1 smooth images count more
                init_from="",  # a model (name or file) or a workdir to take parameters from
                branch_from="",  # a workdir whose last checkpoint, optimizer and all, this run starts from
                parallel="pmap",
                compiled="",  # a step that `jnd_jax.training.ahead` compiled, for parallel="shard_map"
            ),
            eval=dict(every=500, images=8, max_size=512, qualities=(100, 300, 500, 700, 900)),
            checkpoint=dict(every_steps=0, every_minutes=10.0, keep=2),  # beside the best by validation score
        )
    )
