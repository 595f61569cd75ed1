"""The last activation of the synthesis network, kept on one side."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax import codec, modelfile, zoo
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.errors import JndError
from jnd_jax.training import one_sided

QUALITY = np.array([450.0], np.float32)


def net_and_inputs(model, params, y_hat):
    """What the synthesis network adds to the pixels, and the inputs of its last activation."""
    run = lambda m: m.synthesis_residual(y_hat, QUALITY)  # noqa: E731
    keep = lambda module, _: module.name == "Modulation_1"  # noqa: E731
    added, state = nn.apply(run, model, capture_intermediates=keep)({"params": params})
    (inputs,) = state["intermediates"]["synthesis_net"]["Modulation_1"]["__call__"]
    return np.asarray(added), np.asarray(inputs)


@pytest.fixture(scope="module")
def two_sided():
    """A small model with random weights, whose inputs are negative at first."""
    config = {"name": "lapped", "latents": 64, "widths": [8, 16], "groups": [4, 8, 12, 16], "masked_share": 0.0}
    model = codec.build(config)
    fresh = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(np.asarray, fresh)
    net = jax.tree.map(lambda a: a + 0.2 * rng.normal(size=a.shape).astype(np.float32), params["synthesis_net"])
    net["Modulation_1"]["shift"] -= 4
    return config, model, params | {"synthesis_net": net}


def test_negative_inputs_decode_as_before_and_the_line_goes_on_beyond(two_sided):
    _, model, params = two_sided
    net, _ = one_sided.one_sided(model, params["synthesis_net"])
    y_hat = np.random.default_rng(1).normal(size=(1, 4, 4, 64)).astype(np.float32)
    for loudness, negative in ((0.1, True), (2.0, False)):
        before, inputs = net_and_inputs(model, params, loudness * y_hat)
        after, lower = net_and_inputs(model, params | {"synthesis_net": net}, loudness * y_hat)
        assert (inputs.max() < 0) == negative and lower.max() < 0
        np.testing.assert_allclose(lower, inputs - 16, atol=1e-3)
        assert np.allclose(after, before, atol=1e-4) == negative
        assert np.abs(after).max() <= np.abs(before).max() + 1e-4


def test_the_command_writes_a_model_with_the_same_tables(two_sided, monkeypatch, tmp_path, capsys):
    given, target = modelfile.find("jnd-base"), tmp_path / "new.safetensors"
    monkeypatch.setattr(sys, "argv", ["one_sided", str(given), "-o", str(target)])
    one_sided.main()
    old, new = modelfile.load(given), modelfile.load(target)
    assert capsys.readouterr().out.strip() == new.hash != old.hash
    assert all(np.array_equal(table, new.tables[name]) for name, table in old.tables.items())
    lowered = (
        old.params["synthesis_net"]["Modulation_1"]["shift"] - new.params["synthesis_net"]["Modulation_1"]["shift"]
    )
    np.testing.assert_allclose(lowered, 16, rtol=1e-5)


def test_models_without_a_bottleneck_behind_it_are_refused():
    with pytest.raises(JndError, match="give a model that has one"):
        one_sided.one_sided(LappedCodec(synthesis_depths=(0, 3)), {})


@pytest.mark.parametrize("name", ["jnd-perceptual", "jnd-base"])
def test_shipped_models_stay_on_that_side_for_latents_that_no_picture_has(name):
    given = modelfile.load(modelfile.find(name))
    rng = np.random.default_rng(0)
    y_hat = rng.laplace(scale=3.0, size=(1, 8, 8, 448)).astype(np.float32) * (rng.random((1, 8, 8, 448)) < 0.2)
    added, inputs = net_and_inputs(codec.build(given.config), given.params, y_hat)
    assert inputs.max() < -1
    assert zoo.resolve(name, zoo.models()) == given.name and np.isfinite(added).all()
