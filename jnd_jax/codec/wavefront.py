"""The passes of `hyper` over strips of rows, in NumPy, so that working memory does not grow with an image's height.

A row of cells is a row of 2x2 blocks, see `hyper.halves`. A pass needs the results of the passes before it one row of
cells further than its own rows. So each pass stays one row behind the pass before it, and only the last rows of each
array are kept. The symbols are those of `hyper.passes`. Rows are numbered in cells from the top of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jnd_jax.codec import hyper
from jnd_jax.threads import single_blas_thread

# Blocks in a strip: enough to keep matrix products efficient. A block takes about 8 kB of working memory.
STRIP_BLOCKS = 8192

# Rows of cells that a hyper-latent covers.
_CELLS_OF_Z = 2

# The features of a hyper-latent depend on so many rows of hyper-latents above and below it: one for the convolution at
# 1/64 resolution, one for that at 1/32.
FEATURE_HALO = 2


class Rows:
    """The last rows of an array that grows downwards. Rows are indexed by their numbers in the whole array."""

    def __init__(self):
        self._rows: Any = None
        self._first = 0

    def extend(self, rows: np.ndarray, keep: int) -> None:
        """Appends rows, and forgets those before number `keep`."""
        if self._rows is None:
            self._rows = rows
        else:
            keep = min(keep, self.stop)
            kept = self._rows[keep - self._first :]
            self._rows = np.concatenate([kept, rows]) if len(kept) else rows
            self._first = keep

    @property
    def stop(self) -> int:
        """Number of rows in the whole array so far."""
        return 0 if self._rows is None else self._first + len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._rows[rows.start - self._first : rows.stop - self._first]


def _rows_at_once(width: int) -> int:
    """How many rows of `width` cells make STRIP_BLOCKS blocks, an even number."""
    rows = max(STRIP_BLOCKS // (4 * width), 1)
    return rows + rows % 2


def strips(height: int, width: int, passes: int) -> Iterator[slice]:
    """The rows of cells of each strip of (2 height, 2 width) blocks.

    Each strip has an even number of rows. The first has more rows than there are passes, two for each group, if the image has.
    """
    first = max(_rows_at_once(width), passes + 2)
    yield slice(0, min(first, height))
    yield from _pieces(slice(first, height), width)


def keep_from(rows: slice, passes: int) -> int:
    """The first row that the passes still read once they have come to a strip."""
    return max(rows.start - passes - 1, 0)


def _pieces(rows: slice, width: int) -> Iterator[slice]:
    """Rows of `width` cells, an even number at a time.

    What is exact, or computed element by element, is computed in these, as the first strip of wide images is large. Means are
    not: how many rows a product of matrices has changes its rounding errors, and so a few pixels.
    """
    step = _rows_at_once(width)
    return (slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))


def around(rows: slice, by: int, height: int) -> tuple[slice, slice]:
    """`rows` with `by` more on either side, as far as 0..height goes, and where `rows` lie in that wider slice."""
    wide = slice(max(rows.start - by, 0), min(rows.stop + by, height))
    return wide, slice(rows.start - wide.start, rows.stop - wide.start)


def features(make: Callable, path: Mapping[str, Any], z: Rows | np.ndarray, rows: slice, height: int) -> Sequence[Any]:
    """Halves of the features of hyper-latents in `rows`. `make` is `hyper.scale_features` or `hyper.mean_features`."""
    of_z = slice(rows.start // _CELLS_OF_Z, rows.stop // _CELLS_OF_Z)
    wide, inner = around(of_z, FEATURE_HALO, height // _CELLS_OF_Z)
    cells = slice(inner.start * _CELLS_OF_Z, inner.stop * _CELLS_OF_Z)
    return [half[cells] for half in hyper.halves(np, make(np, path, z[wide]))]


class _Path:
    """What the passes of one path (scale or mean) see: features of hyper-latents, values of latents coded before."""

    def __init__(self, parameters: Mapping[str, Any], functions: Sequence[Callable], last: slice, dtype: Any):
        """`last`: the channels of the last group. No pass sees what its last pass codes."""
        self._parameters, (self._make, self._lower, self._near) = parameters, functions
        self._channels, self._dtype = (last.stop, last.start), dtype
        self.groups = parameters["groups"]
        self._features, self.values = (Rows(), Rows()), (Rows(), Rows())
        self._of_lower = [Rows() for _ in self.groups]

    def extend(self, z: Any, rows: slice, height: int, keep: int) -> None:
        """Appends the features of a strip, and empty rows for the values of its latents."""
        for half, x in enumerate(features(self._make, self._parameters, z, rows, height)):
            self._features[half].extend(x, keep)
            self.values[half].extend(np.empty((*x.shape[:-1], self._channels[half]), self._dtype), keep)

    def context(
        self, group: int, half: int, channels: slice, rows: slice, height: int, keep: int, *own: Rows
    ) -> list[Any]:
        """Inputs of a pass: features of hyper-latents, of the groups before, of the anchors; None if there are none.

        Those of the groups before are made for both halves at once, and those of the other half kept from row `keep` on.
        """
        wide, inner = around(rows, 1, height)
        lower = near = None
        if not half and group:
            made = self._lower(np, self.groups[group], [values[wide][..., : channels.start] for values in self.values])
            lower = made[0][inner]
            self._of_lower[group].extend(made[1][inner], keep)
        elif group:
            lower = self._of_lower[group][rows]
        if half:
            near = self._near(np, self.groups[group], *(x[wide][..., channels] for x in (*own, self.values[0])))
            near = tuple(x[inner] for x in near) if isinstance(near, tuple) else near[inner]
        return [self._features[half][rows], lower, near]


class Wavefront:
    """All passes, strip after strip."""

    def __init__(
        self,
        scale: Mapping[str, Any] | None,
        mean: Mapping[str, Any],
        height: int,
        y_hat: Sequence[Rows],
        level: Callable,
        offset: Callable,
        operands: Callable,
        code: Callable,
        keep: Callable,
    ):
        """Starts above the first strip.

        Args:
          scale: integer parameters of the scale path, `hyper.folded`; None: the symbols are known already.
          mean: parameters of the mean path.
          height: rows of cells of the image.
          y_hat: both halves (., w/2, 2, M) of its latents, to which the caller adds the rows of a strip before each `advance`.
            The passes overwrite them with the gained latents that a decoder has. So an encoder may hold there what it codes.
          level: (half, rows) -> `hyper.quality_level` of these blocks, float32, broadcastable to (rows, w/2, 2, 1).
          offset: (half, rows, channels) -> `hyper.scale_offset`, float32, broadcastable to (rows, w/2, 2, channels).
          operands: (rows, group, half) -> what `code` needs of one pass in these rows, each (rows, w/2, 2, channels).
          code: (means, scale indexes, *operands) -> symbols, element by element. Without a scale path there are no indexes.
          keep: (rows, group, half, symbols, scale indexes or None) takes what was coded.
        """
        self.channels = hyper.group_channels(mean)
        self.passes = 2 * len(self.channels)
        self._height, self._level, self._offset, self._end = height, level, offset, 0
        self._operands, self._code, self._keep = operands, code, keep
        self._above: np.ndarray | None = None
        of_mean = hyper.mean_features, hyper.mean_lower, hyper.mean_near
        of_scale = hyper.scale_features, hyper.scale_lower, hyper.scale_near
        self._mean = _Path(mean, of_mean, self.channels[-1], np.float32)
        self._scale = _Path(scale, of_scale, self.channels[-1], np.uint8) if scale else None
        self._y_hat = y_hat

    @single_blas_thread
    def advance(self, z: Any, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Takes in the strip that ends at row `end`, and returns the latents of the rows that are now complete.

        Args:
          z: hyper-latents, which `z[rows]` must give up to two rows beyond the strip.
          end: the next end of `strips`.

        Returns:
          Both halves (rows, w/2, 2, M) of their gained latents.
        """
        start, self._end = self._end, end
        rows = strip = slice(start, end)
        for path in filter(None, (self._scale, self._mean)):
            path.extend(z, strip, self._height, keep_from(strip, self.passes))
        for number in range(self.passes):
            rows = slice(max(start - number, 0), end if end == self._height else end - number)
            self._pass(number, rows)
        return self._y_hat[0][rows], self._y_hat[1][rows]

    def _pass(self, number: int, rows: slice) -> None:
        group, half = divmod(number, 2)
        keep = max(rows.start - 1, 0)
        mean = self._means(group, half, rows, keep)
        for piece in _pieces(rows, mean.shape[1]):
            index = self._indexes(group, half, piece, keep)
            self._code_rows(number, piece, mean[piece.start - rows.start : piece.stop - rows.start], index)

    def _means(self, group: int, half: int, rows: slice, keep: int) -> np.ndarray:
        channels = self.channels[group]
        seen, lower, near = self._mean.context(group, half, channels, rows, self._height, keep, self._y_hat[0])
        return hyper.means(np, self._mean.groups[group], seen, lower, *(near or (None, None)))

    def _indexes(self, group: int, half: int, rows: slice, keep: int) -> np.ndarray | None:
        if not self._scale:
            return None
        channels = self.channels[group]
        seen, lower, near = self._scale.context(group, half, channels, rows, self._height, keep)
        level, offset = self._level(half, rows), self._offset(half, rows, channels)
        return hyper.scale_indexes(np, self._scale.groups[group], seen, level, lower, near, offset)

    def _code_rows(self, number: int, rows: slice, mean: np.ndarray, index: np.ndarray | None) -> None:
        group, half = divmod(number, 2)
        channels = self.channels[group]
        given = [*([] if index is None else [index]), *self._operands(rows, group, half)]
        if number:
            symbols = self._code(mean, *given)
        else:
            # The first pass covers each row once, in order.
            shares = self._mean.groups[0]["above"]
            symbols, mean, self._above = hyper.code_from_above(np, shares, self._code, self._above, mean, *given)
        self._keep(rows, group, half, symbols, index)
        mean += symbols
        self._y_hat[half][rows][..., channels] = mean
        if number == self.passes - 1:
            return
        self._mean.values[half][rows][..., channels] = hyper.compress(np, mean)
        if self._scale:
            self._scale.values[half][rows][..., channels] = hyper.magnitude(np, symbols)


@single_blas_thread
def scale_passes(
    scale: Mapping[str, Any],
    channels: Sequence[slice],
    z: np.ndarray,
    level: Callable,
    offset: Callable,
    code: Callable,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Runs the scale path alone. Each pass covers the whole image before the next, as symbols are ordered in a file.

    Args:
      scale, level, offset: as in `Wavefront`.
      channels: of each group.
      z: (h/4, w/4, Cz) hyper-latents.
      code: (group, half, scale indexes) -> the symbols of a pass, both (h/2, w/2, 2, c); indexes are uint8.

    Returns:
      For each half, the symbols of each group as `code` gave them.
    """
    height, width = (_CELLS_OF_Z * side for side in z.shape[:2])
    in_strips = list(_pieces(slice(0, height), width))
    empty = lambda layer, parts=1: np.empty((height, width, 2, layer["bias"].shape[-1] // parts), np.uint8)
    seen, symbols = [empty(scale["up2"], 4) for _ in (0, 1)], ([], [])
    for rows in in_strips:
        for kept, x in zip(seen, features(hyper.scale_features, scale, z, rows, height)):
            kept[rows] = x
    for group, (layers, here) in enumerate(zip(scale["groups"], channels)):
        lower = [empty(layers["context"]) for _ in (0, 1)] if group else None
        for half in (0, 1):
            index = empty(layers["out"])
            for rows in in_strips:
                wide, inner = around(rows, 1, height)
                near = None
                if half:
                    near = hyper.scale_near(np, layers, hyper.magnitude(np, symbols[0][-1][wide]))[inner]
                elif lower:
                    before = [np.concatenate([x[wide] for x in groups], axis=-1) for groups in symbols]
                    made = hyper.scale_lower(np, layers, [hyper.magnitude(np, x) for x in before])
                    for kept, x in zip(lower, made):
                        kept[rows] = x[inner]
                below = lower[half][rows] if lower else None
                shift = offset(half, rows, here)
                index[rows] = hyper.scale_indexes(np, layers, seen[half][rows], level(half, rows), below, near, shift)
            symbols[half].append(code(group, half, index))
    return symbols
