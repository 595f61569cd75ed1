from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from jnd_jax import codec
from jnd_jax.codec import distortion, hyper
from tests.models import CONFIG

MODEL = codec.build(CONFIG)


@pytest.fixture(scope="module")
def untrained():
    return jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]


@pytest.fixture(scope="module")
def params(untrained):
    """Parameters in which every path matters: untrained ones leave many at zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.02 * rng.standard_normal(p.shape).astype(np.float32), untrained)


@pytest.fixture(scope="module")
def photos():
    """(4, 128, 192, 3) in [0, 1]."""
    image = data.astronaut().astype(np.float32) / 255
    return jnp.stack([image[r : r + 128, c : c + 192] for r, c in ((0, 0), (0, 200), (200, 100), (380, 300))])


def test_an_untrained_default_model_is_a_transform_codec(photos):
    model = codec.build({"name": "lapped"})
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))
    quality = jnp.full(4, 1000.0)

    @jax.jit
    def through(params, x, rounded):
        y = model.apply(params, x, quality, method="analysis")
        return model.apply(params, jnp.where(rounded, jnp.round(y), y), quality, method="synthesis")

    psnr = lambda y: -10 * np.log10(np.mean((np.asarray(y) - photos) ** 2))
    assert psnr(through(params, photos, False)) > 39
    assert psnr(through(params, photos, True)) > 36


def test_bits_and_reconstruction_follow_the_quality(untrained, photos):
    forward = jax.jit(lambda q: MODEL.apply({"params": untrained}, photos[:1].repeat(3, 0), q))(
        jnp.array([0.0, 500, 1000])
    )
    bits = np.asarray(forward.bits_y)
    error = np.mean((np.asarray(forward.x_hat) - photos[:1]) ** 2, (1, 2, 3))
    assert bits[0] < bits[1] < bits[2] and error[0] > error[1] > error[2]


def test_a_deep_analysis_bounds_what_it_does_not_know(photos):
    model = codec.build(CONFIG | {"analysis_depths": (1, 10)})
    untrained = jax.jit(model.init)(jax.random.key(0), photos[:1], jnp.zeros(1))["params"]
    net = dict(untrained["analysis_net"])
    louder = lambda layer: jax.tree.map(lambda p: 30 * (p + 0.1), layer)
    net |= {name: louder(layer) for name, layer in net.items() if name.startswith("Bottleneck")}
    net["Conv_2"] = jax.tree.map(lambda p: p + 0.01, net["Conv_2"])
    analysis = jax.jit(lambda params: model.apply({"params": params}, photos, jnp.full(4, 500.0), method="analysis"))
    assert 1 < np.abs(analysis(untrained | {"analysis_net": net}) - analysis(untrained)).max() < 100


def test_gradients_are_finite_and_reach_every_parameter(params, photos):
    keys = jax.random.split(jax.random.key(1), 4)

    def loss(params):
        out = MODEL.apply({"params": params}, photos, jnp.array([0.0, 130, 700, 1000]), keys)
        return jnp.sum(out.bits_y + out.bits_z) * 1e-4 + jnp.sum((out.x_hat - photos) ** 2)

    gradients = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(np.asarray(leaf) != 0), path


def test_scales_learn_from_the_symbols_in_the_file_and_not_from_noise(params, photos):
    def bits(params, keys):
        out = MODEL.apply({"params": params}, photos, jnp.array([0.0, 130, 700, 1000]), keys)
        return jnp.sum(out.bits_y)

    gradient = jax.jit(jax.grad(bits))
    noisy, rounded = gradient(params, jax.random.split(jax.random.key(1), 4)), gradient(params, None)
    np.testing.assert_allclose(noisy["scale_offset"], rounded["scale_offset"], rtol=1e-4, atol=1e-4)
    assert np.any(np.asarray(rounded["scale_offset"]) != 0)


def test_an_example_does_not_depend_on_its_batch(params, photos):
    code = jax.jit(lambda x, q: MODEL.apply({"params": params}, x, q, method=_symbols))
    qualities = np.array([100, 400, 700, 950], np.float32)
    together = np.asarray(code(photos, qualities))
    alone = np.concatenate([np.asarray(code(photos[i : i + 1], qualities[i : i + 1])) for i in range(4)])
    # The symbols themselves come from floats that may differ in their last bit between two compilations.
    assert np.mean(together != alone) < 1e-3


def _symbols(model, x, quality):
    y = model.analysis(x, quality)
    z = jnp.round(jnp.clip(model.hyper_analysis(y), -hyper.Z_MAX, hyper.Z_MAX))
    return model.code(y, z, quality, distortion.log_activity(x)).symbols


def test_padding_beyond_the_given_blocks_changes_nothing_inside(params, photos):
    quality = jnp.array([300.0])
    x = photos[:1, :64, :96]
    padded = np.pad(x, ((0, 0), (0, 64), (0, 32), (0, 0)), mode="edge")
    run = partial(MODEL.apply, {"params": params})
    y = run(x, quality, method="analysis")
    y_padded = run(padded, quality, (4, 6), method="analysis")[:, :4, :6]
    # Zero padding of the networks' 3x3 convolutions differs from the edge padding here, at the image's last blocks.
    np.testing.assert_allclose(y[:, :3, :5], y_padded[:, :3, :5], atol=1e-3)
    back = run(y, quality, method="synthesis")
    back_padded = run(np.pad(y, ((0, 0), (0, 4), (0, 2), (0, 0))), quality, (4, 6), method="synthesis")[:, :64, :96]
    np.testing.assert_allclose(back[:, :48, :80], back_padded[:, :48, :80], atol=1e-4)


def test_integer_sums_stay_exact_in_float32(params):
    path = MODEL.apply({"params": params}, method="integer_scale_path")
    layers = [(name, layer) for part in (path, *path.pop("groups")) for name, layer in part.items()]
    assert len(layers) > 10
    for name, layer in layers:
        weight, bias = np.asarray(layer["weight"], np.float64), np.asarray(layer["bias"], np.float64)
        assert np.array_equal(weight, np.round(weight)) and np.array_equal(bias, np.round(bias)), name
        largest = np.abs(weight).sum(0) * hyper.ACTIVATION_MAX + np.abs(bias) + 0.5 / np.asarray(layer["unit"])
        assert largest.max() < 2**24, name


@pytest.mark.parametrize("quality", [0, 1, 62, 63, 124, 125, 500, 937, 938, 999, 1000])
def test_scale_offsets_agree_between_training_and_coding(params, quality):
    table = np.asarray(MODEL.apply({"params": params}, method="integer_scale_offset"))
    trained = np.asarray(MODEL.apply({"params": params}, jnp.full(1, float(quality)), method="_offset_at")).reshape(-1)
    coded = hyper.scale_offset(table.astype(np.int8), quality)
    # Halves round to even in training and up in coding.
    exact = (
        table[min(quality // 125, 7)]
        + (quality / 125 - min(quality // 125, 7)) * np.diff(table, axis=0)[min(quality // 125, 7)]
    )
    halves = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    assert np.array_equal(trained[~halves], coded[~halves])
    assert np.abs(trained - coded).max() <= 1
