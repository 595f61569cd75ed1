"""Latents to bytes and back, in NumPy. The integer scale path decides which frequency table codes each symbol."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jnd_jax.bitstream import Header
from jnd_jax.codec import hyper, hyper_context
from jnd_jax.codec.linear import FOOTPRINT, GRID, LINEAR_UNITS, round_up
from jnd_jax.codec.wavefront import FEATURE_HALO, Rows, Wavefront, around, keep_from, scale_passes, strips
from jnd_jax.entropy import symbols
from jnd_jax.entropy.coder import PartialRangeDecoder, back_end
from jnd_jax.entropy.tables import PRECISION
from jnd_jax.errors import JndError
from jnd_jax.threads import single_blas_thread

# Layers of each group. The first group has no `embed` and no `context`.
_GROUP_LAYERS = ("embed", "context", "own1", "own2", "merge", "mid", "out")

# Quality of y: one integer 0..1000, or (h, w) integers, one for each position. Hyper-latents have one for all.
Quality = int | np.ndarray

# (rows of cells, channels, half) -> distortion of a unit error in these latents, see `hyper.distortion_weight`.
Energy = Callable[[slice, slice, int], np.ndarray]

# A hyper-latent depends on the latents of so many rows of hyper-latents above and below its own.
_ANALYSIS_HALO = 2


@dataclass(frozen=True)
class LatentCoder:
    """All that coding needs, as NumPy arrays. `latent_coder` builds it.

    Attributes:
      hyper_analysis, mean: float parameters of those paths.
      scale: integer parameters of the scale path, carried by float32.
      scale_offset: (nodes, M) int8.
      log_inverse_gain: (nodes, M) float.
      synthesis: (M, 768) basis functions of the linear synthesis before the post-filter, in pixels of [0, 1].
      y_tables: for each scale level, the frequencies of -k..k and of the escape symbol.
      y_start: (levels,) where each level's -k stands in `y_bits`.
      y_half_width: (levels,) k of each level.
      y_bits: bits of each symbol of all `y_tables`, one table after the other.
      hyper_context: integer parameters of that network, see `hyper_context`.
      hyper_offset: (nodes, 2 Cz) int8.
      z_tables, z_half_width: as those of y, by the numbers of `hyper_context.code`.
    """

    hyper_analysis: Mapping[str, Any]
    mean: Mapping[str, Any]
    scale: Mapping[str, Any]
    scale_offset: np.ndarray
    log_inverse_gain: np.ndarray
    synthesis: np.ndarray
    y_tables: list[np.ndarray]
    y_start: np.ndarray
    y_half_width: np.ndarray
    y_bits: np.ndarray
    hyper_context: Mapping[str, Any]
    hyper_offset: np.ndarray
    z_tables: list[np.ndarray]
    z_half_width: np.ndarray

    @property
    def hyper_latent_channels(self) -> int:
        """Cz."""
        return self.hyper_offset.shape[1] // 2

    @property
    def group_channels(self) -> list[slice]:
        """The channels of each group; each is coded in two passes."""
        return hyper.group_channels(self.mean)

    @cached_property
    def synthesis_energy(self) -> np.ndarray:
        """(M,) squared norms of the basis functions."""
        return np.sum(self.synthesis**2, axis=1)

    @cached_property
    def _folded_scale(self) -> Mapping[str, Any]:
        return hyper.folded(self.scale)

    @cached_property
    def _folded_hyper_context(self) -> Mapping[str, Any]:
        return hyper.folded(self.hyper_context)

    @property
    def passes(self) -> int:
        """How many passes code y."""
        return 2 * len(self.mean["groups"])

    @cached_property
    def least_bits(self) -> float:
        """The fewest bits that a position of z takes."""
        return self.hyper_latent_channels * float(PRECISION - np.log2(max(table.max() for table in self.z_tables)))

    def hyper_latents(self, y: np.ndarray) -> np.ndarray:
        """Integer hyper-latents (h/4, w/4, Cz), float32, of gained latents y (h, w, M)."""
        return self._hyper_latents(self._features(y))

    @single_blas_thread
    def _features(self, y: np.ndarray) -> np.ndarray:
        """What hyper-latents are made of, a fraction of the latents' size."""
        return hyper.block_features(np, self.hyper_analysis, y)

    @single_blas_thread
    def _hyper_latents(self, features: np.ndarray) -> np.ndarray:
        made = hyper.hyper_analysis_of_features(np, self.hyper_analysis, features)
        return hyper.round_hyper_latents(np, made)

    @single_blas_thread
    def encode_z(self, z: np.ndarray, quality: int, coder: str = "constriction") -> bytes:
        """Bytes of the hyper-latents (h, w, Cz); `coder` as in `entropy.coder.back_end`."""
        writer = back_end(coder)[0](self.z_tables)

        def code(table: np.ndarray, mean: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            symbols.encode_by_index(writer, z[at] - mean, table, self.z_half_width)
            return z[at]

        self._code_z(z.shape[:2], quality, code)
        return writer.finish()

    @single_blas_thread
    def decode_z(self, data: bytes, height: int, width: int, quality: int, coder: str = "constriction") -> np.ndarray:
        """Hyper-latents (height, width, Cz) from `encode_z`'s bytes; JndError if they are damaged."""
        reader = back_end(coder)[1](data, self.z_tables)

        def code(table: np.ndarray, mean: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            return np.clip(symbols.decode_by_index(reader, table, self.z_half_width) + mean, -hyper.Z_MAX, hyper.Z_MAX)

        z = self._code_z((height, width), quality, code)
        reader.finish()
        return z

    def _code_z(self, shape: tuple[int, ...], quality: int, code: Callable) -> np.ndarray:
        level = np.full(1, hyper.quality_level(quality), np.float32)
        offset = hyper.scale_offset(self.hyper_offset, quality).astype(np.float32)
        return hyper_context.code(self._folded_hyper_context, level, offset, (*shape, self.hyper_latent_channels), code)

    def encode_strips(
        self,
        strips: Iterable[np.ndarray],
        height: int,
        width: int,
        quality: Quality,
        coder: str = "constriction",
        energy: Energy | None = None,
    ) -> tuple[np.ndarray, bytes]:
        """Encodes latents strip by strip, so that working memory does not grow with the image's height.

        Args:
          strips: rows of gained latents from the top, each strip (n, w, M), together (h, w, M); or (n, w, 2 M), where the first
            M channels are what hyper-latents are made of, and the last what is coded.
          height, width: h and w, multiples of 4.
          quality, coder, energy: as in `encode_y`.

        Returns:
          Hyper-latents (h/4, w/4, Cz), and the bytes of the latents as `encode_y` writes them.
        """
        z, coded = self._code_strips(strips, height, width, quality, energy)
        return z, self._write(*coded, coder)

    def _code_strips(
        self, strips: Iterable[np.ndarray], height: int, width: int, quality: Quality, energy: Energy | None
    ) -> tuple[np.ndarray, tuple[list, list]]:
        """Hyper-latents, and what `_code` gives; arguments as of `encode_strips`."""
        latents, features, channels = (Rows(), Rows()), Rows(), self.group_channels[-1].stop
        z = np.empty((height // GRID, width // GRID, self.hyper_latent_channels), np.float32)
        known, strips = 0, _in_fours(strips)

        def prepare(rows: slice, keep: int) -> np.ndarray:
            """Reads strips until z holds all hyper-latents on which the features of `rows` depend."""
            nonlocal known
            last = min(-(-rows.stop // 2) + FEATURE_HALO, len(z))
            if known == last:
                return z
            wide, inner = around(slice(known, last), _ANALYSIS_HALO, len(z))
            seen = slice(GRID * wide.start, GRID * wide.stop)
            while features.stop < seen.stop:
                strip = next(strips)
                features.extend(self._features(strip[..., :channels]), seen.start)
                for kept, x in zip(latents, hyper.halves(np, strip[..., -channels:])):
                    kept.extend(x, keep)
                del strip
            z[known:last] = self._hyper_latents(features[seen])[inner]
            known = last
            return z

        return z, self._code(prepare, latents, height, width, quality, energy)

    def encode_y(
        self, y: np.ndarray, z: np.ndarray, quality: Quality, coder: str = "constriction", energy: Energy | None = None
    ) -> bytes:
        """Bytes of gained latents, by rate-distortion optimised quantisation.

        A symbol moves one step towards zero where that lowers bits + lambda * distortion. The distortion is that of the
        linear synthesis alone.

        Args:
          y: (h, w, M).
          z: (h/4, w/4, Cz) hyper-latents.
          quality: 0..1000, one for all positions, or (h, w), one for each.
          coder: as in `entropy.coder.back_end`.
          energy: distortion of a unit error in latents, see `Energy`; None: squared error.
        """
        return self._write(*self._code_whole(y, z, quality, energy)[1], coder)

    def as_decoded(self, y: np.ndarray, z: np.ndarray, quality: Quality, energy: Energy | None = None) -> np.ndarray:
        """The gained latents (h, w, M) that `decode_y` would give of the bytes of `encode_y`, whose arguments these are."""
        latents, _ = self._code_whole(y, z, quality, energy)
        return hyper.interleave(np, *(kept[slice(0, len(y) // 2)] for kept in latents))

    def _code_whole(self, y, z, quality: Quality, energy: Energy | None) -> tuple[tuple[Rows, Rows], tuple[list, list]]:
        """Both halves of what a decoder has, and what `_code` gives; arguments as of `encode_y`."""
        (height, width), latents = y.shape[:2], (Rows(), Rows())
        for kept, x in zip(latents, hyper.halves(np, y)):
            kept.extend(x, 0)
        return latents, self._code(lambda rows, keep: z, latents, height, width, quality, energy)

    def _code(
        self,
        prepare: Callable,
        latents: tuple[Rows, Rows],
        height: int,
        width: int,
        quality: Quality,
        energy: Energy | None,
    ) -> tuple[list, list]:
        """Symbols and scale indexes, both by half and group, each `_Waiting`.

        `prepare(rows, keep)` runs before each strip: it adds to both halves of `latents` and returns hyper-latents. Coding
        overwrites the latents.
        """
        at, (level, offset) = _by_half(quality), self._scale_inputs(quality)
        energy_at = energy or (lambda rows, channels, half: self.synthesis_energy[channels])
        in_strips = list(strips(height // 2, width // 2, self.passes))
        all_symbols, indexes = (
            [[_Waiting(dtype, len(in_strips) > 1) for _ in self.group_channels] for _ in (0, 1)]
            for dtype in (np.int16, np.uint8)
        )

        def operands(rows: slice, group: int, half: int) -> tuple[np.ndarray, np.ndarray]:
            channels, here = self.group_channels[group], at(half, rows)
            gain = self.log_inverse_gain_at(here[..., 0], channels)
            weight = hyper.distortion_weight(np, here, gain, energy_at(rows, channels, half))
            y = latents[half][rows][..., channels]
            return y, np.broadcast_to(weight, y.shape)

        def code(mean: np.ndarray, index: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
            return self._quantise(y - mean, index, weight)

        def keep(rows: slice, group: int, half: int, coded: np.ndarray, index: np.ndarray) -> None:
            indexes[half][group].append(index)
            all_symbols[half][group].append(coded)

        wave = Wavefront(self._folded_scale, self.mean, height // 2, latents, level, offset, operands, code, keep)
        for rows in in_strips:
            wave.advance(prepare(rows, keep_from(rows, self.passes)), rows.stop)
        return all_symbols, indexes

    def _write(self, all_symbols: list, indexes: list, coder: str) -> bytes:
        """The bytes of what `_code` gave, which it takes out of the lists."""
        writer = back_end(coder)[0](self.y_tables)
        for _ in self.group_channels:
            for half in (0, 1):
                # Popped, so that each is freed once it is coded.
                coded, levels = all_symbols[half].pop(0).join(), indexes[half].pop(0).join()
                symbols.encode_by_index(writer, coded, levels, self.y_half_width)
        return writer.finish()

    def decode_strips(
        self,
        data: bytes,
        z: np.ndarray,
        quality: Quality,
        coder: str = "constriction",
        partial: bool = False,
    ) -> Iterator[np.ndarray]:
        """The gained latents of `decode_y` in strips of rows, each (n, w, M); arguments and errors as there."""
        return self._latents(self._decode_symbols(data, z, quality, coder, None, partial, None), z, None)

    def decode_y(
        self,
        data: bytes,
        z: np.ndarray,
        quality: Quality,
        coder: str = "constriction",
        groups: int | None = None,
        partial: bool = False,
    ) -> hyper.Coded:
        """What `encode_y`'s bytes hold.

        Args:
          data: the chunk y.
          z: (h/4, w/4, Cz) hyper-latents.
          quality: 0..1000, one or (h, w).
          coder: as in `entropy.coder.back_end`.
          groups: how many groups of channels to decode; None: all.
          partial: whether `data` may end too soon, see `entropy.coder.PartialRangeDecoder`.

        Raises:
          JndError: the data is damaged.
        """
        indexes: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        decoded = self._decode_symbols(data, z, quality, coder, groups, partial, indexes)
        whole = lambda parts: hyper.interleave(np, *(np.concatenate(half, axis=-1) for half in parts))
        y_hat = np.concatenate(list(self._latents(decoded, z, groups)))
        return hyper.Coded(whole(decoded).astype(np.float32), y_hat, whole(indexes))

    def recode_y(self, data: bytes, z: np.ndarray, quality: Quality, coder: str, new_coder: str) -> bytes:
        """Transcodes `data`, which `encode_y` wrote with `coder`, to what it would have written with `new_coder`.

        Raises:
          JndError: the data is damaged.
        """
        reader, writer = back_end(coder)[1](data, self.y_tables), back_end(new_coder)[0](self.y_tables)

        def code(group: int, half: int, index: np.ndarray) -> np.ndarray:
            decoded = symbols.decode_by_index(reader, index, self.y_half_width)
            symbols.encode_by_index(writer, decoded, index, self.y_half_width)
            return decoded

        scale_passes(self._folded_scale, self.group_channels, z, *self._scale_inputs(quality), code)
        reader.finish()
        return writer.finish()

    def _decode_symbols(self, data, z, quality: Quality, coder: str, groups: int | None, partial: bool, indexes):
        """Symbols of each half and group. Their scale indexes are appended to `indexes`, unless it is None."""
        reader = (PartialRangeDecoder if partial else back_end(coder)[1])(data, self.y_tables)

        def code(group: int, half: int, index: np.ndarray) -> np.ndarray:
            if indexes is not None:
                indexes[half].append(index)
            return symbols.decode_by_index(reader, index, self.y_half_width)

        channels = self.group_channels[:groups]
        decoded = scale_passes(self._folded_scale, channels, z, *self._scale_inputs(quality), code)
        if groups is None:
            reader.finish()
        return decoded

    def _latents(self, decoded: Any, z: np.ndarray, groups: int | None) -> Iterator[np.ndarray]:
        """Gained latents in strips of rows, from the symbols of `_decode_symbols`."""
        (height, width), channels = (2 * side for side in z.shape[:2]), self.group_channels[:groups][-1].stop
        y_hat = Rows(), Rows()
        unused = lambda *_: None
        mean = dict(self.mean, groups=self.mean["groups"][:groups])
        known = lambda rows, group, half: (decoded[half][group][rows],)
        wave = Wavefront(None, mean, height, y_hat, unused, unused, known, lambda mean, coded: coded, unused)
        for rows in strips(height, width, wave.passes):
            for half in y_hat:
                new = np.empty((rows.stop - rows.start, width, 2, channels), np.float32)
                half.extend(new, keep_from(rows, wave.passes))
            yield hyper.interleave(np, *wave.advance(z, rows.stop))

    def log_inverse_gain_at(self, quality: Quality, channels: slice = slice(None)) -> np.ndarray:
        """`log_inverse_gain`, linear between the nodes: (M,) at one quality in 0..1000, (h, w, M) at (h, w) of them."""
        quality, table = np.asarray(quality)[..., None], self.log_inverse_gain[:, channels]
        low = np.minimum(quality[..., 0] // hyper.NODE_SPACING, hyper.NODES - 2)
        t = quality / hyper.NODE_SPACING - low[..., None]
        return (1 - t) * table[low] + t * table[low + 1]

    def _scale_inputs(self, quality: Quality) -> tuple[Callable, Callable]:
        """The arguments `level` and `offset` of `Wavefront`."""
        at = _by_half(quality)
        level = lambda half, rows: hyper.quality_level(at(half, rows)).astype(np.float32)
        offset = lambda half, rows, channels: hyper.scale_offset(
            self.scale_offset[:, channels], at(half, rows)[..., 0]
        ).astype(np.float32)
        return level, offset

    def _quantise(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.round(residual), -symbols.SYMBOL_MAX, symbols.SYMBOL_MAX)
        at = np.nonzero(rounded)
        value, symbol, level = residual[at], rounded[at], index[at]
        lower = symbol - np.sign(symbol)
        half = self.y_half_width[level]
        inside = np.abs(symbol) <= half
        start = self.y_start[level] + half
        bits = lambda s: self.y_bits[(start + np.where(inside, s, 0)).astype(np.int64)]
        distortion = (value - lower) ** 2 - (value - symbol) ** 2
        better = inside & (bits(symbol) - bits(lower) > weight[at] * distortion)
        rounded[at] = np.where(better, lower, symbol)
        return rounded


class _Waiting:
    """What a pass coded, strip after strip: the range coder has to wait for the last. Most symbols are 0."""

    def __init__(self, dtype: Any, compress: bool):
        self._dtype, self._parts = dtype, list[bytes]()
        self._pack, self._unpack = (
            (lambda rows: zlib.compress(rows, 1), zlib.decompress) if compress else (bytes, bytes)
        )

    def append(self, rows: np.ndarray) -> None:
        self._parts.append(self._pack(np.ascontiguousarray(rows, self._dtype).data))

    def join(self) -> np.ndarray:
        """All of it, flat."""
        return np.frombuffer(b"".join(map(self._unpack, self._parts)), self._dtype)


def _by_half(quality: Quality) -> Callable[[int, slice], np.ndarray]:
    """(half, rows of cells) -> the qualities there, broadcastable to (rows, w/2, 2, 1)."""
    if np.ndim(quality) == 0:
        return lambda half, rows: np.asarray(quality).reshape(1, 1, 1, 1)
    split = hyper.halves(np, np.asarray(quality)[..., None])
    return lambda half, rows: split[half][rows]


def _in_fours(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows, in strips whose heights are multiples of four."""
    rest = np.empty(0)
    for strip in strips:
        rest = np.concatenate([rest, strip]) if len(rest) else strip
        whole = len(rest) - len(rest) % GRID
        if whole:
            given, rest = [rest[:whole]], rest[whole:].copy()
            del strip
            # Popped, so that nothing here holds on to it.
            yield given.pop()


def z_of_file(latents: Any, header: Header, chunks: Mapping[str, bytes]) -> np.ndarray:
    """Hyper-latents (h/4, w/4, Cz) of an unpacked file.

    Args:
      latents: the coder of the model that wrote it, a `LatentCoder` or a `float_coding.FloatCoder`.
      header: of the file.
      chunks: of the file, by name.

    Raises:
      JndError: what the header says does not fit the model or the chunks, or the data is damaged.
    """
    for name in ("z", "y"):
        if name not in chunks:
            raise JndError(f"This file has no {name!r} chunk: get a fresh copy of it.")
    h, w = (round_up(side) // FOOTPRINT for side in (header.height, header.width))
    # So that no small file claims a huge image.
    if h * w * latents.least_bits > 8 * len(chunks["z"]) + 64:
        raise JndError("The coded data is too short for the declared image size; get a fresh copy of the file.")
    return latents.decode_z(chunks["z"], h, w, header.quality, header.coder)


def latent_coder(params: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> LatentCoder:
    """The coder of a model file's `params` and `tables` (see `freeze.coding_tables`).

    Raises:
      JndError: the model is not a lapped codec of this version.
    """
    if "scale_offset" not in tables:
        raise JndError("The model has no integer tables to code with: use a model of the 'lapped' family.")

    if "hyper_offset" not in tables:
        raise JndError("The model is of an earlier version: get one of this version, or train it anew.")

    def float_layer(name):
        return {part: np.asarray(params[f"{name}_{part}"], np.float32) for part in ("weight", "bias")}

    def integer_layer(name):
        part = lambda p: tables[f"{name}.{p}"].astype(np.float32)
        return {"weight": part("weight"), "bias": part("bias"), "unit": np.exp2(-part("shift"))}

    def mean_group(i):
        names = [name for name in _GROUP_LAYERS if f"mean_{i}_{name}_weight" in params]
        shares = {"cross": np.asarray(params[f"mean_{i}_cross"], np.float32)}
        if not i:
            shares["above"] = hyper.shares_from_above(np, np.asarray(params["mean_0_above"], np.float32))
        return {name: float_layer(f"mean_{i}_{name}") for name in names} | shares

    def scale_group(i):
        names = [name for name in _GROUP_LAYERS if f"scale.{i}.{name}.weight" in tables]
        return {name: integer_layer(f"scale.{i}.{name}") for name in names}

    groups = range(sum(name.endswith("_cross") for name in params))
    half_width, z_half_width = (tables[f"{name}.half_width"].astype(np.int64) for name in "yz")
    ends, z_ends = (np.cumsum(2 * half + 2) for half in (half_width, z_half_width))
    synthesis = np.asarray(params["linear_synthesis"], np.float64) * LINEAR_UNITS["synthesis"]
    return LatentCoder(
        hyper_analysis={n: float_layer(f"hyper_analysis_{n}") for n in ("reduce", "down1", "down2")},
        mean={n: float_layer(f"mean_{n}") for n in ("up1", "up2")} | {"groups": [mean_group(i) for i in groups]},
        scale={n: integer_layer(f"scale.{n}") for n in ("up1", "up2")} | {"groups": [scale_group(i) for i in groups]},
        scale_offset=tables["scale_offset"],
        log_inverse_gain=np.asarray(params["log_inverse_gain"], np.float64),
        synthesis=synthesis,
        y_tables=np.split(tables["y.frequency"], ends[:-1]),
        y_start=ends - 2 * half_width - 2,
        y_half_width=half_width,
        y_bits=PRECISION - np.log2(tables["y.frequency"]),
        hyper_context={n: integer_layer(f"hyper.{n}") for n in ("hidden", "out")},
        hyper_offset=tables["hyper_offset"],
        z_tables=np.split(tables["z.frequency"], z_ends[:-1]),
        z_half_width=z_half_width,
    )
