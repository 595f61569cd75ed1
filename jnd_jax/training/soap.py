"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Sides = dict[str, jax.Array]


class SoapState(NamedTuple):
    """Per parameter leaf, in flattening order: `mean` in the parameter's own basis, `square` in the eigenbasis, and
    the second moments and eigenvectors of each side ("left", "right") that is preconditioned.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  a tuple's method, which nobody calls here
    mean: tuple[jax.Array, ...]
    square: tuple[jax.Array, ...]
    moment: tuple[Sides, ...]
    basis: tuple[Sides, ...]


def _matrix(leaf: jax.Array) -> jax.Array:
    """A kernel as (fan-in, fan-out); vectors and scalars as they are."""
    return leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim >= 2 else leaf


def _rotate(matrix: jax.Array, basis: Sides) -> jax.Array:
    if "left" in basis:
        matrix = basis["left"].T @ matrix
    return matrix @ basis["right"] if "right" in basis else matrix


def _rotate_back(matrix: jax.Array, basis: Sides) -> jax.Array:
    if "left" in basis:
        matrix = basis["left"] @ matrix
    return matrix @ basis["right"].T if "right" in basis else matrix


def _turn(moment: Sides, basis: Sides, square: jax.Array) -> tuple[Sides, jax.Array]:
    """One step of power iteration per side, directions in falling order of their eigenvalues; `square` follows."""
    turned = {}
    for axis, side in enumerate(("left", "right")):
        if side in basis:
            estimate = jnp.sum(basis[side] * (moment[side] @ basis[side]), 0)
            order = jnp.argsort(-estimate)
            square = jnp.take(square, order, axis)
            turned[side] = jnp.linalg.qr(moment[side] @ basis[side][:, order])[0]
    return turned, square


def scale_by_soap(
    b1: float = 0.95, b2: float = 0.95, eps: float = 1e-4, every: int = 10, largest: int = 1024
) -> optax.GradientTransformation:
    """SOAP's direction, of Adam's magnitude; the eigenbasis turns each `every` steps.

    A side longer than `largest` keeps its own basis (one-sided SOAP); vectors and scalars get plain Adam. The first
    step only measures: its update is zero.
    """

    def sides(matrix: jax.Array) -> dict[str, int]:
        if matrix.ndim < 2:
            return {}
        return {side: n for side, n in zip(("left", "right"), matrix.shape) if 1 < n <= largest}

    def init(params: Any) -> SoapState:
        matrices = [_matrix(leaf) for leaf in jax.tree.leaves(params)]
        zeros = lambda: tuple(jnp.zeros_like(m) for m in matrices)
        moment = tuple({side: jnp.zeros((n, n), m.dtype) for side, n in sides(m).items()} for m in matrices)
        basis = tuple({side: jnp.eye(n, dtype=m.dtype) for side, n in sides(m).items()} for m in matrices)
        return SoapState(jnp.zeros((), jnp.int32), zeros(), zeros(), moment, basis)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SoapState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        matrices = [_matrix(leaf) for leaf in leaves]
        first = state.count == 0
        t = jnp.maximum(state.count, 1).astype(jnp.float32)

        def measured(matrix: jax.Array, moment: Sides) -> Sides:
            product = {"left": lambda: matrix @ matrix.T, "right": lambda: matrix.T @ matrix}
            return {side: b2 * old + (1 - b2) * product[side]() for side, old in moment.items()}

        moment = tuple(measured(g, old) for g, old in zip(matrices, state.moment))
        # The first gradient fixes the basis and leaves Adam's moments alone.
        average = lambda b, old, new: jnp.where(first, old, b * old + (1 - b) * new)
        mean = tuple(average(b1, m, g) for m, g in zip(state.mean, matrices))
        square = tuple(average(b2, v, _rotate(g, q) ** 2) for v, g, q in zip(state.square, matrices, state.basis))

        def direction(m: jax.Array, v: jax.Array, q: Sides) -> jax.Array:
            root = jnp.sqrt(v / (1 - b2**t))
            # Relative to the leaf: in directions no gradient has had, rounding noise must not be blown up to unit size.
            scaled = _rotate(m, q) / (1 - b1**t) / (root + eps * jnp.sqrt(jnp.mean(root**2)) + 1e-16)
            return jnp.where(first, 0.0, _rotate_back(scaled, q))

        updates = [direction(m, v, q).reshape(leaf.shape) for m, v, q, leaf in zip(mean, square, state.basis, leaves)]

        def initial() -> tuple[tuple[Sides, ...], tuple[jax.Array, ...]]:
            vectors = lambda m: {side: jnp.linalg.eigh(value)[1][:, ::-1] for side, value in m.items()}
            return tuple(vectors(m) for m in moment), square

        def turned() -> tuple[tuple[Sides, ...], tuple[jax.Array, ...]]:
            pairs = [_turn(m, q, v) for m, q, v in zip(moment, state.basis, square)]
            return tuple(q for q, _ in pairs), tuple(v for _, v in pairs)

        case = jnp.where(first, 0, jnp.where(state.count % every == 0, 1, 2))
        basis, square = jax.lax.switch(case, (initial, turned, lambda: (state.basis, square)))
        return jax.tree.unflatten(tree, updates), SoapState(state.count + 1, mean, square, moment, basis)

    return optax.GradientTransformation(init, update)
