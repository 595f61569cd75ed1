"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Sides = dict[str, jax.Array]
_T = functools.partial(jnp.swapaxes, axis1=-1, axis2=-2)


class SoapState(NamedTuple):
    """Leaves of one shape are stacked, so that few operations are compiled and launched.

    Each tuple has an item for each shape, of k leaves (n, m). Vectors and scalars have no sides.

    Attributes:
        count: steps so far.
        mean: (k, n, m) Adam's first moment, in the parameters' own basis.
        square: (k, n, m) Adam's second moment, in the eigenbasis.
        moment: Shampoo's second moments, square matrices (k, ...) by preconditioned side, "left" or "right".
        basis: their eigenvectors, by side.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  a tuple's method, which nobody calls here
    mean: tuple[jax.Array, ...]
    square: tuple[jax.Array, ...]
    moment: tuple[Sides, ...]
    basis: tuple[Sides, ...]


def _groups(leaves: Sequence[jax.Array]) -> dict[tuple[int, ...], list[int]]:
    """Numbers of the leaves of each shape. A kernel has (fan-in, fan-out); vectors and scalars have their own."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, leaf in enumerate(leaves):
        shape = (leaf.size // leaf.shape[-1], leaf.shape[-1]) if leaf.ndim >= 2 else leaf.shape
        groups.setdefault(shape, []).append(i)
    return groups


def _stacked(leaves: Sequence[jax.Array]) -> list[jax.Array]:
    return [jnp.stack([leaves[i].reshape(shape) for i in group]) for shape, group in _groups(leaves).items()]


def _unstacked(stacks: Sequence[jax.Array], like: Sequence[jax.Array]) -> list[jax.Array]:
    flat = {i: part for stack, group in zip(stacks, _groups(like).values()) for i, part in zip(group, stack)}
    return [flat[i].reshape(leaf.shape) for i, leaf in enumerate(like)]


def _one_by_one(decompose: Callable[[jax.Array], jax.Array], stack: jax.Array) -> jax.Array:
    """`decompose` of each matrix of a stack. XLA's CPU back end decomposes a stack on the threads that wait for it: with as
    many stacks as threads, all wait for ever.
    """
    return jax.lax.map(decompose, stack)


def _rotate(matrix: jax.Array, basis: Sides) -> jax.Array:
    if "left" in basis:
        matrix = _T(basis["left"]) @ matrix
    return matrix @ basis["right"] if "right" in basis else matrix


def _rotate_back(matrix: jax.Array, basis: Sides) -> jax.Array:
    if "left" in basis:
        matrix = basis["left"] @ matrix
    return matrix @ _T(basis["right"]) if "right" in basis else matrix


def _turn(moment: Sides, basis: Sides, square: jax.Array) -> tuple[Sides, jax.Array]:
    """One step of power iteration per side. Directions are sorted by falling eigenvalue, and `square` with them."""
    turned = {}
    for side, q in basis.items():
        order = jnp.argsort(-jnp.sum(q * (moment[side] @ q), -2))
        along = order[:, :, None] if side == "left" else order[:, None, :]
        square = jnp.take_along_axis(square, along, 1 if side == "left" else 2)
        ordered = moment[side] @ jnp.take_along_axis(q, order[:, None, :], 2)
        turned[side] = _one_by_one(lambda matrix: jnp.linalg.qr(matrix)[0], ordered)
    return turned, square


def scale_by_soap(
    b1: float = 0.95, b2: float = 0.95, eps: float = 1e-4, every: int = 10, largest: int = 1024
) -> optax.GradientTransformation:
    """SOAP's direction, of Adam's magnitude.

    Vectors and scalars get plain Adam. The first step only measures: its update is zero.

    Args:
        b1: decay of the first moment.
        b2: decay of the second moments.
        eps: floor of the divisor, as a share of the leaf's root mean square.
        every: steps from one turn of the eigenbasis to the next.
        largest: a side longer than this keeps its own basis (one-sided SOAP).
    """

    def sides(stack: jax.Array) -> dict[str, int]:
        if stack.ndim < 3:
            return {}
        return {side: n for side, n in zip(("left", "right"), stack.shape[1:]) if 1 < n <= largest}

    def init(params: Any) -> SoapState:
        stacks = _stacked(jax.tree.leaves(params))
        zeros = lambda: tuple(jnp.zeros_like(s) for s in stacks)
        square = lambda s, n: jnp.zeros((len(s), n, n), s.dtype)
        moment = tuple({side: square(s, n) for side, n in sides(s).items()} for s in stacks)
        basis = tuple({side: square(s, n) + jnp.eye(n, dtype=s.dtype) for side, n in sides(s).items()} for s in stacks)
        return SoapState(jnp.zeros((), jnp.int32), zeros(), zeros(), moment, basis)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SoapState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        stacks = _stacked(leaves)
        first = state.count == 0
        t = jnp.maximum(state.count, 1).astype(jnp.float32)

        def measured(stack: jax.Array, moment: Sides) -> Sides:
            product = {"left": lambda: stack @ _T(stack), "right": lambda: _T(stack) @ stack}
            return {side: b2 * old + (1 - b2) * product[side]() for side, old in moment.items()}

        moment = tuple(measured(g, old) for g, old in zip(stacks, state.moment))
        # The first gradient fixes the basis and leaves Adam's moments alone.
        average = lambda b, old, new: jnp.where(first, old, b * old + (1 - b) * new)
        mean = tuple(average(b1, m, g) for m, g in zip(state.mean, stacks))
        square = tuple(average(b2, v, _rotate(g, q) ** 2) for v, g, q in zip(state.square, stacks, state.basis))

        def direction(m: jax.Array, v: jax.Array, q: Sides) -> jax.Array:
            root = jnp.sqrt(v / (1 - b2**t))
            # Relative to the leaf, so that rounding noise does not grow to unit size in directions no gradient has had.
            floor = eps * jnp.sqrt(jnp.mean(root**2, range(1, root.ndim), keepdims=True))
            scaled = _rotate(m, q) / (1 - b1**t) / (root + floor + 1e-16)
            return jnp.where(first, 0.0, _rotate_back(scaled, q))

        updates = _unstacked([direction(m, v, q) for m, v, q in zip(mean, square, state.basis)], leaves)

        def initial() -> tuple[tuple[Sides, ...], tuple[jax.Array, ...]]:
            vectors = lambda matrix: jnp.linalg.eigh(matrix)[1][:, ::-1]
            return tuple({side: _one_by_one(vectors, m) for side, m in each.items()} for each in moment), square

        def turned() -> tuple[tuple[Sides, ...], tuple[jax.Array, ...]]:
            pairs = [_turn(m, q, v) for m, q, v in zip(moment, state.basis, square)]
            return tuple(q for q, _ in pairs), tuple(v for _, v in pairs)

        case = jnp.where(first, 0, jnp.where(state.count % every == 0, 1, 2))
        basis, square = jax.lax.switch(case, (initial, turned, lambda: (state.basis, square)))
        return jax.tree.unflatten(tree, updates), SoapState(state.count + 1, mean, square, moment, basis)

    return optax.GradientTransformation(init, update)
