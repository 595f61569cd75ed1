from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from jnd_jax.errors import JndError
from jnd_jax.training.optimizers import learning_rate, make_optimizer


def settings(**changes):
    return base.get_config().train.to_dict() | changes


def params():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "a": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 8)), "bias": jax.random.normal(keys[1], (8,))},
        "b": {"kernel": jax.random.normal(keys[2], (6, 5))},
    }


def test_the_learning_rate_rises_holds_and_falls_to_zero():
    rate = learning_rate(settings(steps=1000, warmup=100, decay=0.2, learning_rate=2.0))
    assert [float(rate(s)) for s in (0, 49, 99, 500, 800)] == pytest.approx([0.02, 1.0, 2.0, 2.0, 2.0])
    assert float(rate(900)) == pytest.approx(1.0)
    assert float(rate(1000)) == 0.0


def test_the_decay_may_start_at_a_given_step():
    rate = learning_rate(settings(steps=1000, warmup=0, decay_from_step=600, learning_rate=1.0))
    assert [float(rate(s)) for s in (600, 800, 999)] == pytest.approx([1.0, 0.5, 0.0025])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon", "soap"])
def test_every_optimizer_descends(name):
    target = jax.tree.map(lambda a: a + 0.3 * jnp.sin(jnp.arange(a.size, dtype=a.dtype).reshape(a.shape)), params())
    loss = lambda p: sum(jnp.sum((x - y) ** 2) for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(target)))
    optimizer = make_optimizer(settings(optimizer=name, clip=0.0))
    p = params()
    state = optimizer.init(p)

    @jax.jit
    def step(p, state):
        updates, state = optimizer.update(jax.grad(loss)(p), state, p)
        return jax.tree.map(lambda a, u: a + 0.02 * u, p, updates), state

    before = float(loss(p))
    for _ in range(200):
        p, state = step(p, state)
    assert float(loss(p)) < 0.35 * before


def test_adam_is_optax_adam():
    optimizer = make_optimizer(settings(optimizer="adam", betas=(0.9, 0.999), clip=0.0))
    reference = optax.adam(1.0, 0.9, 0.999)
    p = params()
    a, b = optimizer.init(p), reference.init(p)
    for i in range(3):
        grads = jax.tree.map(lambda v: v * (i + 1), p)
        (u, a), (v, b) = optimizer.update(grads, a, p), reference.update(grads, b, p)
    for x, y in zip(jax.tree.leaves(u), jax.tree.leaves(v)):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_muon_orthogonalises_convolution_kernels_as_matrices_and_leaves_biases_to_adam():
    optimizer = make_optimizer(settings(optimizer="muon"))
    p = params()
    updates, _ = optimizer.update(p, optimizer.init(p), p)
    singular = np.linalg.svd(np.asarray(updates["a"]["kernel"]).reshape(36, 8), compute_uv=False)
    given = np.linalg.svd(np.asarray(p["a"]["kernel"]).reshape(36, 8), compute_uv=False)
    assert singular.max() / singular.min() < 1.9 < given.max() / given.min()
    np.testing.assert_allclose(np.abs(updates["a"]["bias"]), abs(updates["a"]["bias"][0]), rtol=1e-3)


def test_clipping_bounds_the_gradient():
    optimizer = make_optimizer(settings(optimizer="sgd", clip=0.5))
    updates, _ = optimizer.update(params(), optimizer.init(params()), params())
    assert float(optax.global_norm(updates)) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("name", ["adam", "muon", "soap"])
def test_frozen_parameters_stay(name):
    optimizer = make_optimizer(settings(optimizer=name, freeze=("^a/kern",)))
    state = optimizer.init(params())
    for _ in range(2):  # the first step of SOAP only measures
        updates, state = optimizer.update(params(), state, params())
    assert not np.any(updates["a"]["kernel"])
    assert np.any(updates["a"]["bias"]) and np.any(updates["b"]["kernel"])


def test_a_pattern_that_freezes_nothing_is_an_error():
    with pytest.raises(JndError, match="decoder"):
        make_optimizer(settings(freeze=("decoder",))).init(params())


def test_an_unknown_optimizer_names_the_known_ones():
    with pytest.raises(JndError, match="muon"):
        make_optimizer(settings(optimizer="lion"))
