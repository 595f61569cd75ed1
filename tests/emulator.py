"""Arithmetic of accelerators on any machine: operands of products rounded as a TPU or a GPU does by default."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp

MANTISSA = {"bfloat16": 7, "tf32": 10}
_EXACT = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


@contextlib.contextmanager
def rounded_operands(kind: str):
    """Inside, products of matrices and convolutions that do not ask for the highest precision round their operands."""

    def rounding(bind):
        def rounded(x, y, **params):
            if params.get("precision") != _EXACT:
                x, y = (jax.lax.reduce_precision(a, 8, MANTISSA[kind]) if a.dtype == jnp.float32 else a for a in (x, y))
            return bind(x, y, **params)

        return rounded

    primitives = jax.lax.dot_general_p, jax.lax.conv_general_dilated_p
    jax.clear_caches()
    for primitive in primitives:
        primitive.bind = rounding(primitive.bind)
    try:
        yield
    finally:
        for primitive in primitives:
            del primitive.bind
        jax.clear_caches()
