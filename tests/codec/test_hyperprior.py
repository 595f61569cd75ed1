from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.codec import layers
from jnd_jax.codec.hyperprior import MODELS, MeanScaleHyperprior, ScaleHyperprior, from_compressai
from jnd_jax.errors import JndError

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["bmshj2018-hyperprior", "mbt2018-mean"]


def _golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    state = {key.removeprefix("state/"): arrays.pop(key) for key in list(arrays) if key.startswith("state/")}
    return arrays, state


def _quick_key(seed):
    """Of a generator that XLA compiles several times faster than the default one."""
    return jax.random.key(seed, impl="rbg")


def _forward(config):
    model = MODELS[config["name"]](N=config["N"], M=config["M"])
    return jax.jit(lambda params, x, keys: model.apply({"params": params}, x, None, keys))


def _older_key(key):
    parts = key.split(".")
    singular = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
    return f"{parts[0]}._{singular[parts[1]]}{parts[2]}" if len(parts) > 2 and parts[1] in singular else key


@pytest.mark.parametrize("lowering", ["polyphase", "strided"])
@pytest.mark.parametrize("name", NAMES)
def test_reconstruction_and_bits_are_compressai_s(name, lowering):
    golden, state = _golden(name)
    config, params = from_compressai(state, name)
    assert config == {"name": name, "N": 8, "M": 12}
    with layers.use_lowering(lowering):
        out = _forward(config)(params, golden["image"] / np.float32(255), None)
    np.testing.assert_allclose(out.x_hat, golden["x_hat"], atol=1e-4)
    np.testing.assert_allclose(out.bits_y, golden["bits_y"], rtol=1e-4)
    np.testing.assert_allclose(out.bits_z, golden["bits_z"], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_older_compressai_releases_are_read(name):
    _, state = _golden(name)
    older = {_older_key(key): value for key, value in state.items()}
    assert older.keys() != state.keys()
    expected, params = from_compressai(state, name)[1], from_compressai(older, name)[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
    "name,change,message",
    [
        ("mbt2018", lambda state: state, "choose one of"),
        (NAMES[0], lambda state: {k: v for k, v in state.items() if k != "h_a.2.bias"}, "no h_a.2.bias"),
        (NAMES[0], lambda state: {k: v for k, v in state.items() if k != "g_a.6.weight"}, "g_a.6.weight"),
        (NAMES[0], lambda state: state | {"context_prediction.weight": np.zeros(3)}, "context_prediction.weight"),
        (NAMES[0], lambda state: state | {"g_s.2.weight": np.zeros((8, 9, 5, 5))}, "g_s.2.weight does not have"),
        (NAMES[1], lambda state: state, "does not have the shape"),
    ],
)
def test_wrong_state_dicts_are_refused(name, change, message):
    _, state = _golden(NAMES[0])
    with pytest.raises(JndError, match=message):
        from_compressai(change(state), name)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
def test_a_torch_file_is_read(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    _, state = _golden(NAMES[0])
    path = tmp_path / "weights.pth"
    torch.save(wrap({key: torch.from_numpy(value) for key, value in state.items()}), path)
    jax.tree.map(np.testing.assert_array_equal, from_compressai(path, NAMES[0]), from_compressai(state, NAMES[0]))


@pytest.mark.parametrize("name", NAMES)
def test_transforms_compose_to_the_forward_pass(name):
    golden, state = _golden(name)
    config, params = from_compressai(state, name)
    x = golden["image"] / np.float32(255)
    model = MODELS[name](N=8, M=12).bind({"params": params})
    y = model.analysis(x)
    z = model.hyper_analysis(y)
    assert y.shape == (2, 4, 4, 12) and z.shape == (2, 1, 1, 8)
    mean, scale = model.predict(jnp.round(z - params["median"]) + params["median"], y, jnp.zeros(1))
    assert mean.shape == scale.shape == y.shape
    x_hat = model.synthesis(jnp.round(y - mean) + mean)
    np.testing.assert_allclose(x_hat, golden["x_hat"], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_noise_belongs_to_the_example_and_stands_in_for_rounding(name):
    golden, state = _golden(name)
    config, params = from_compressai(state, name)
    x = golden["image"] / np.float32(255)
    keys = jax.random.split(jax.random.key(0), 2)
    forward = _forward(config)
    out = forward(params, x, keys)
    swapped = forward(params, x[::-1], keys[::-1])
    for a, b in zip(out, swapped, strict=True):
        np.testing.assert_allclose(a, b[::-1], rtol=1e-4, atol=1e-5)
    other = forward(params, x, jax.random.split(jax.random.key(1), 2))
    assert np.all(out.bits_y != other.bits_y) and np.all(out.bits_z != other.bits_z)
    # Rates with noise estimate those with rounding.
    np.testing.assert_allclose(out.bits_y, golden["bits_y"], rtol=0.2)
    np.testing.assert_allclose(out.bits_z, golden["bits_z"], rtol=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_but_the_median_gets_a_gradient(name):
    golden, state = _golden(name)
    config, params = from_compressai(state, name)
    x = golden["image"] / np.float32(255)
    model = MODELS[name](N=config["N"], M=config["M"])

    @jax.jit
    @jax.grad
    def gradient(params):
        out = model.apply({"params": params}, x, None, jax.random.split(_quick_key(1), 2))
        return jnp.mean((out.x_hat - x) ** 2) * 1e4 + jnp.mean(out.bits_y + out.bits_z)

    gradients = gradient(params)
    assert not np.any(gradients.pop("median"))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)


def test_a_new_model_reconstructs_any_shape_of_blocks_with_finite_bits():
    model = MeanScaleHyperprior(N=4, M=6)
    x = jax.random.uniform(jax.random.key(0), (1, 64, 128, 3))
    out, _ = jax.jit(lambda key: model.init_with_output(key, x, None, None))(_quick_key(1))
    assert out.x_hat.shape == x.shape and out.bits_y.shape == out.bits_z.shape == (1,)
    assert all(np.all(np.isfinite(leaf)) for leaf in out) and out.bits_y > 0 and out.bits_z > 0


def test_sizes_that_are_no_multiples_of_64_are_refused():
    with pytest.raises(JndError, match="multiples of 64"):
        ScaleHyperprior(N=4, M=6).init(jax.random.key(0), jnp.zeros((1, 64, 65, 3)), None, None)
