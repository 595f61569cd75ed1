from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnd_jax.training.soap import scale_by_soap


def test_the_first_step_only_measures():
    p = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}
    transform = scale_by_soap()
    updates, _ = transform.update(p, transform.init(p))
    assert not any(np.any(u) for u in jax.tree.leaves(updates))


def test_vectors_get_adam():
    p = {"b": jnp.array([1.0, -2.0, 3.0])}
    soap, adam = scale_by_soap(0.9, 0.99), optax.scale_by_adam(0.9, 0.99)
    s, a = soap.init(p), adam.init(p)
    _, s = soap.update(p, s)
    for i in range(4):
        grads = {"b": p["b"] * (1 + i)}
        (u, s), (v, a) = soap.update(grads, s), adam.update(grads, a)
        np.testing.assert_allclose(u["b"], v["b"], rtol=1e-3)


def test_the_basis_stays_orthogonal_and_finds_the_directions_of_the_gradients():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0].astype(np.float32)
    sizes = jnp.array([20.0, 10, 5, 2.5, 1.2, 0.6, 0.3, 0.15])
    transform = scale_by_soap(every=2)
    p = {"w": jnp.zeros((8, 5))}
    state = transform.init(p)
    update = jax.jit(transform.update)
    for key in jax.random.split(jax.random.key(0), 200):
        _, state = update({"w": rotation @ (sizes[:, None] * jax.random.normal(key, (8, 5)))}, state)
    basis = np.asarray(state.basis[0]["left"][0])
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-5)
    assert (np.abs(rotation.T @ basis).max(1) > 0.9).all()


def test_a_turned_ill_conditioned_valley_is_descended_faster_than_by_adam():
    keys = jax.random.split(jax.random.key(1), 2)
    left, right = (np.linalg.qr(np.asarray(jax.random.normal(k, (16, 16))))[0] for k in keys)
    curvature = jnp.logspace(0, 4, 16)
    loss = lambda w: jnp.sum(curvature[:, None] * curvature[None, :] * (left.T @ w @ right) ** 2) * 1e-4
    final = {}
    for name, transform in (("soap", scale_by_soap(0.9, 0.95)), ("adam", optax.scale_by_adam(0.9, 0.95))):

        @jax.jit
        def step(w, state, rate):
            direction, state = transform.update(jax.grad(loss)(w), state)
            return w - rate * direction, state

        w = jax.random.normal(jax.random.key(2), (16, 16))
        state = transform.init(w)
        for i in range(1000):
            w, state = step(w, state, 2e-2 * (1 - i / 1000))
        final[name] = float(loss(w))
    assert final["soap"] < 0.1 * final["adam"]


def test_a_side_that_is_too_long_keeps_its_basis():
    p = {"w": jnp.ones((3, 3, 4, 6))}
    state = scale_by_soap(largest=16).init(p)
    assert set(state.basis[0]) == {"right"} and state.basis[0]["right"].shape == (1, 6, 6)


def test_no_decomposition_takes_a_stack_which_two_threads_of_a_cpu_would_wait_for_for_ever():
    p = {name: jnp.zeros((6, 5)) for name in "abc"}
    transform = scale_by_soap()
    text = jax.jit(transform.update).lower(p, transform.init(p)).as_text()
    calls = [line for line in text.splitlines() if re.search(r"custom_call @lapack_s(syevd|geqrf|orgqr)", line)]
    assert len(calls) >= 3
    assert not any(re.search(r"tensor<\d+x\d+x\d+x", line) for line in calls)
