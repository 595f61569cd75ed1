from __future__ import annotations

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.codec import layers
from jnd_jax.errors import JndError


def _random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _direct_conv(x, kernel, stride):
    """Convolution by its definition, one output pixel at a time."""
    half = kernel.shape[0] // 2
    padded = np.pad(x, [(0, 0), (half, half), (half, half), (0, 0)])
    rows, columns = (-(-size // stride) for size in x.shape[1:3])
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, i * stride : i * stride + 2 * half + 1, j * stride : j * stride + 2 * half + 1]
            out[:, i, j] = np.tensordot(window, kernel, 3)
    return out


def _direct_conv_transpose(x, kernel, stride):
    """Each input pixel adds its kernel, centred on its own position, to the output."""
    size, half = kernel.shape[0], kernel.shape[0] // 2
    out = np.zeros((x.shape[0], x.shape[1] * stride + size, x.shape[2] * stride + size, kernel.shape[-1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            splat = np.einsum("bi,klio->bklo", x[:, i, j], kernel)
            out[:, i * stride : i * stride + size, j * stride : j * stride + size] += splat
    return out[:, half : half + x.shape[1] * stride, half : half + x.shape[2] * stride]


CASES = [(k, s) for k in (1, 3, 5) for s in (1, 2, 4)]


@pytest.mark.parametrize("lowering", ["polyphase", "strided", "product"])
@pytest.mark.parametrize("size,stride", CASES)
@pytest.mark.parametrize("height,width", [(8, 12), (7, 9)])
def test_conv_is_its_definition(size, stride, height, width, lowering):
    x, kernel = _random(0, 2, height, width, 3), _random(1, size, size, 3, 5)
    with layers.use_lowering(lowering):
        out = layers.conv(x, kernel, stride)
    np.testing.assert_allclose(out, _direct_conv(x, kernel, stride), atol=2e-5)


@pytest.mark.parametrize("lowering", ["polyphase", "strided", "product"])
@pytest.mark.parametrize("size,stride", CASES)
def test_conv_transpose_is_its_definition(size, stride, lowering):
    x, kernel = _random(0, 2, 3, 4, 5), _random(1, size, size, 5, 3)
    with layers.use_lowering(lowering):
        out = layers.conv_transpose(x, kernel, stride)
    np.testing.assert_allclose(out, _direct_conv_transpose(x, kernel, stride), atol=2e-5)


def gradients(function, lowering, loss, x, kernel):
    with layers.use_lowering(lowering):
        return jax.jit(jax.grad(lambda x, kernel: loss(function(x, kernel)), (0, 1)))(x, kernel)


@pytest.mark.parametrize("function", [layers.conv, layers.conv_transpose])
@pytest.mark.parametrize("size,stride", [(k, s) for k, s in CASES if k > 1])
def test_lowerings_have_equal_gradients(function, size, stride):
    x, kernel = _random(0, 2, 8, 4, 3), _random(1, size, size, 3, 5)
    call = lambda x, kernel: function(x, kernel, stride)
    weight = _random(2, *call(x, kernel).shape)
    loss = lambda out: jnp.mean(weight * jnp.tanh(out))
    three = [gradients(call, lowering, loss, x, kernel) for lowering in ("polyphase", "strided", "product")]
    for polyphase, strided, product in zip(*three, strict=True):
        assert np.any(polyphase != 0)
        np.testing.assert_allclose(polyphase, strided, atol=1e-5)
        np.testing.assert_allclose(polyphase, product, atol=1e-5)


@pytest.mark.parametrize(
    "function,left,right", [(layers.tall_product, (2, 24, 5), (5, 3)), (layers.left_product, (6, 4), (2, 3, 4, 5))]
)
def test_products_and_their_gradients_are_the_same_in_parts(function, left, right):
    left, right = _random(0, *left), _random(1, *right)
    weight = _random(2, *np.matmul(left, right).shape)
    loss = lambda out: jnp.sum(weight * out)
    np.testing.assert_allclose(function(left, right), left @ right, atol=1e-5)
    whole, parts = (gradients(function, lowering, loss, left, right) for lowering in ("strided", "product"))
    expected = jax.grad(lambda left, right: loss(jnp.matmul(left, right)), (0, 1))(left, right)
    for each, other, by_jax in zip(whole, parts, expected, strict=True):
        np.testing.assert_allclose(each, by_jax, atol=1e-5)
        np.testing.assert_allclose(other, by_jax, atol=1e-5)


@pytest.mark.parametrize("function", [layers.conv, layers.conv_transpose])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("features_in,features", [(96, 160), (160, 96)])
@pytest.mark.parametrize("patches", [2**24, 0], ids=["at once", "image by image"])
def test_wide_layers_have_equal_gradients_in_both_lowerings(
    function, stride, features_in, features, patches, monkeypatch
):
    monkeypatch.setattr(layers, "_PATCHES_MAX", patches)
    x, kernel = _random(0, 2, 10, 12, features_in), 0.03 * _random(1, 3, 3, features_in, features)
    call = lambda x, kernel: function(x, kernel, stride)
    weight = _random(2, *jax.eval_shape(call, x, kernel).shape)
    loss = lambda out: jnp.sum(weight * out) / weight.size**0.5
    both = [gradients(call, lowering, loss, x, kernel) for lowering in ("polyphase", "strided")]
    for polyphase, strided in zip(*both, strict=True):
        assert np.any(polyphase != 0)
        np.testing.assert_allclose(polyphase, strided, atol=1e-5)


@pytest.mark.parametrize("module", [layers.Conv, layers.ConvTranspose])
def test_modules_share_parameters_between_lowerings(module):
    x = _random(0, 1, 8, 8, 3)
    params = module(7, stride=2).init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == {"params": {"kernel": (5, 5, 3, 7), "bias": (7,)}}
    out = []
    for lowering in ("polyphase", "strided"):
        with layers.use_lowering(lowering):
            out.append(module(7, stride=2).apply(params, x))
    np.testing.assert_allclose(*out, atol=1e-5)


def strides(platform):
    """Whether a strided convolution, and its gradient, hold a strided window when lowered for a platform."""
    x, kernel = _random(0, 1, 8, 8, 3), _random(1, 5, 5, 3, 4)
    function = jax.jit(jax.value_and_grad(lambda x: layers.conv(x, kernel, 2).sum()))
    return "stride = [2, 2]" in jax.export.export(function, platforms=[platform])(x).mlir_module()


def test_use_lowering_decides_what_is_traced():
    with layers.use_lowering("strided"):
        assert strides("cpu")
    with layers.use_lowering("polyphase"):
        assert not strides("tpu")


def test_the_platform_that_runs_decides_not_the_one_that_traces():
    assert not strides("cpu")
    assert strides("tpu") and strides("cuda")
    x, kernel = _random(0, 1, 8, 8, 3), _random(1, 3, 3, 3, 4)
    lowered = lambda platform: jax.export.export(jax.jit(layers.conv), platforms=[platform])(x, kernel).mlir_module()
    assert "stablehlo.convolution" in lowered("cpu") and "stablehlo.convolution" not in lowered("cuda")


def test_space_to_depth_orders_row_column_channel_and_is_inverted():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    blocks = layers.space_to_depth(x, 2)
    np.testing.assert_array_equal(blocks[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(layers.depth_to_space(blocks, 2), x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: layers.conv(x, np.zeros((4, 4, 3, 3))),
        lambda x: layers.use_lowering("fast").__enter__(),
        lambda x: layers.space_to_depth(x, 2),
        lambda x: layers.depth_to_space(x, 2),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(JndError):
        call(np.zeros((1, 5, 5, 3), np.float32))


def test_gdn_is_its_equation_and_the_inverse_undoes_it_for_diagonal_gamma():
    x = _random(0, 2, 3, 3, 4)
    params = layers.GDN().init(jax.random.key(0), x)
    expected = x / np.sqrt(1 + 0.1 * x**2)
    np.testing.assert_allclose(layers.GDN().apply(params, x), expected, rtol=1e-5)
    expected = x * np.sqrt(1 + 0.1 * x**2)
    np.testing.assert_allclose(layers.GDN(inverse=True).apply(params, x), expected, rtol=1e-5)


def test_gdn_mixes_channels_from_input_to_output():
    x = np.array([[1.0, 2.0]], np.float32)
    params = {"params": {"beta": np.ones(2), "gamma": np.sqrt(np.array([[0, 3], [0, 0]]))}}
    np.testing.assert_allclose(layers.GDN().apply(params, x), [[1, 2 / np.sqrt(1 + 3)]], rtol=1e-5)


def test_gdn_stays_finite_and_recovers_when_parameters_fall_below_their_bounds():
    x = np.array([[0.0, 3.0]], np.float32)
    params = {"params": {"beta": np.full(2, -1.0), "gamma": np.full((2, 2), -1.0)}}
    out = layers.GDN().apply(params, x)
    assert np.all(np.isfinite(out))
    gradient = jax.grad(lambda p: layers.GDN().apply(p, x)[0, 1])(params)["params"]
    # The output falls as beta rises, so descent on it raises beta: the gradient must pass.
    assert gradient["beta"][1] < 0
    blocked = jax.grad(lambda p: -layers.GDN().apply(p, x)[0, 1])(params)["params"]
    assert blocked["beta"][1] == 0
