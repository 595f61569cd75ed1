import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.codec import hyper_context


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3), (7, 2)])
def test_steps_come_after_the_neighbours_of_their_positions(size):
    decoded = set()
    for rows, columns in hyper_context.steps(*size):
        here = list(zip(rows.tolist(), columns.tolist()))
        for row, column in here:
            around = {(row + i, column + j) for i, j in hyper_context.NEIGHBOURS}
            inside = {(i, j) for i, j in around if 0 <= i < size[0] and 0 <= j < size[1]}
            assert inside <= decoded
        decoded.update(here)
    assert decoded == {(i, j) for i in range(size[0]) for j in range(size[1])}


@pytest.mark.parametrize("xp", [np, jnp])
def test_neighbours_are_zero_beyond_the_border(xp):
    z = xp.arange(1, 7).reshape(1, 2, 3, 1)
    around = np.asarray(hyper_context.neighbours(xp, z))[0, ..., 0]
    assert around[0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]
    assert around[1].tolist() == [[0, 0, 1, 2], [4, 1, 2, 3], [5, 2, 3, 0]]
