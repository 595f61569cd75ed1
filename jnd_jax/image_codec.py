"""The codec that people use: 8-bit images to .jnd bytes and back, with one model file."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax import bitstream, codec, modelfile, search
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.jnd import JndCodec
from jnd_jax.codec.linear import BLOCK, BUCKET, GRID, TILE
from jnd_jax.errors import JndError

QUALITIES = tuple(q / 10 for q in range(hyper.QUALITY_MAX + 1))


class ImageCodec:
    """Encodes and decodes 8-bit RGB images of any size.

    Attributes:
      name: the model's name.
      hash: 16 hexadecimal digits that its streams carry.
    """

    def __init__(self, model: modelfile.ModelFile):
        """Raises JndError for a model without coding tables (one that only trains)."""
        self.name, self.hash = model.name, model.hash
        self._model = codec.build(model.config)
        if not isinstance(self._model, JndCodec) or not model.tables:
            raise JndError(f"Model {model.name!r} can be trained and measured, but has no tables to code with: "
                           "use a model of the 'jnd' family.")
        self._params = jax.tree.map(jnp.asarray, model.params)
        self._latents = coding.latent_coder(model.params, model.tables)

    def encode(self, image: np.ndarray, quality: float | None = None, *, bpp: float | None = None,
               target: str | None = None, extras: Mapping[str, bytes] | None = None,
               coder: str = "constriction") -> bytes:
        """The .jnd file of an image.

        Args:
          image: (H, W, 3) uint8 RGB, sides 1..65535.
          quality: 0..100 in steps of 0.1, default 50. Excludes `bpp` and `target`.
          bpp: the best file of at most this many bits per pixel.
          target: what the smallest file must reach, as `search.parse_target` reads it: "psnr=38", "jnd", ...
          extras: further chunks by name (see `bitstream`): icc, exif, alpha.
          coder: the range coder, one of `bitstream.CODERS`.

        Raises:
          JndError: for anything else, a target that no quality reaches, or a coder that is not installed.
        """
        if sum(v is not None for v in (quality, bpp, target)) > 1:
            raise JndError("Give one of quality, bpp and target.")
        check_image(image)
        encode = lambda picture, q: self._encode(picture, q, extras or {}, coder)
        if bpp is None and target is None:
            return encode(image, 50.0 if quality is None else quality)
        goal = search.Target("bpp", bpp) if bpp is not None else search.parse_target(target)
        return search.reach(image, encode, self.decode, QUALITIES, goal).data

    def _encode(self, image: np.ndarray, quality: float, extras: Mapping[str, bytes], coder: str) -> bytes:
        level = _level(quality)
        y = self.analyse(image, level)
        z = self._latents.hyper_latents(y)
        chunks = {"z": self._latents.encode_z(z, level, coder), "y": self._latents.encode_y(y, z, level, coder)}
        height, width = image.shape[:2]
        return bitstream.pack(bitstream.Header(self.hash, width, height, level, coder), chunks | dict(extras))

    def decode(self, data: bytes) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image of a .jnd file.

        Raises:
          JndError: for a file that is damaged, not a .jnd file, or made with another model.
        """
        header, chunks = bitstream.unpack(data)
        y_hat = self.decode_latents(header, chunks).y_hat
        return self.synthesise(y_hat, header.quality)[:header.height, :header.width]

    def decode_latents(self, header: bitstream.Header, chunks: Mapping[str, bytes]) -> coding.Latents:
        """The latents of an unpacked file; raises JndError as `decode` does."""
        if header.model != self.hash:
            raise JndError(f"This file was made with model {header.model}, not {self.name} ({self.hash}): "
                           "decode it with the model that made it.")
        for name in ("z", "y"):
            if name not in chunks:
                raise JndError(f"This file has no {name!r} chunk: get a fresh copy of it.")
        h, w = (_padded(side) // (GRID * BLOCK) for side in (header.height, header.width))
        self._latents.check_size(len(chunks["z"]), h * w, header.quality)
        z = self._latents.decode_z(chunks["z"], h, w, header.quality, header.coder)
        return self._latents.decode_y(chunks["y"], z, header.quality, header.coder)

    def analyse(self, image: np.ndarray, level: int) -> np.ndarray:
        """Gained latents (h, w, M) of an (H, W, 3) uint8 image at integer quality 0..1000."""
        height, width = (_padded(side) for side in image.shape[:2])
        padded = _pad(image, height, width)
        halo = _halo(self._model.analysis_depths)
        quality = np.full(1, level, np.float32)
        run = lambda tile, blocks: _analysis(self._model, self._params, tile, quality, blocks)
        return _tiled(padded, (height // BLOCK, width // BLOCK), BLOCK, 1, halo, run, _pad)

    def synthesise(self, y_hat: np.ndarray, level: int) -> np.ndarray:
        """(16 h, 16 w, 3) uint8 image of gained latents (h, w, M) at integer quality 0..1000."""
        quality = np.full(1, level, np.float32)
        run = lambda tile, blocks: _synthesis(self._model, self._params, tile, quality, blocks)
        return _tiled(y_hat, y_hat.shape[:2], 1, BLOCK, _halo(self._model.synthesis_depths), run, _pad_zero)


def check_image(image: np.ndarray) -> None:
    """Raises JndError unless `image` is (H, W, 3) uint8 with sides in 1..65535."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise JndError(f"An image must be a uint8 array of shape (height, width, 3), not {what}: convert it first.")
    height, width = image.shape[:2]
    if not (0 < height <= bitstream.MAX_SIDE and 0 < width <= bitstream.MAX_SIDE
            and height * width <= bitstream.MAX_PIXELS):
        raise JndError(f"An image of {width}x{height} pixels cannot be coded: use sides of 1 to {bitstream.MAX_SIDE} "
                       f"pixels and at most {bitstream.MAX_PIXELS} pixels in all.")


def _level(quality: float) -> int:
    level = round(10 * quality) if np.isfinite(quality) else -1
    if not 0 <= level <= hyper.QUALITY_MAX:
        raise JndError(f"Quality must be a number from 0 to 100, not {quality}.")
    return level


def _padded(side: int) -> int:
    return -(-side // (GRID * BLOCK)) * GRID * BLOCK


def _pad(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.pad(x, [(0, height - x.shape[0]), (0, width - x.shape[1]), (0, 0)], mode="edge")


def _pad_zero(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.pad(x, [(0, height - x.shape[0]), (0, width - x.shape[1]), (0, 0)])


def _halo(depths: tuple[int, int]) -> int:
    """Blocks around a block that its transform reads: 3x3 convolutions at 1/4 and 1/8, and the border filter."""
    return -(-max(BLOCK // 2, 4 * (1 + depths[0]) + 8 * depths[1]) // BLOCK)


def _spans(blocks: int, halo: int) -> list[tuple[int, int, int]]:
    """(start, first kept, end of kept) of the tiles along one side of `blocks` blocks."""
    if blocks <= TILE:
        return [(0, 0, blocks)]
    step = TILE - 2 * halo
    spans, kept = [], 0
    while kept < blocks:
        start = min(max(kept - halo, 0), blocks - TILE)
        end = blocks if start == blocks - TILE else start + halo + step
        spans.append((start, kept, end))
        kept = end
    return spans


def _tiled(x, blocks, unit_in, unit_out, halo, run, pad):
    """Runs `run(tile (1, ., ., C), (rows, columns) of blocks) -> (1, ., ., C')` over overlapping tiles of x."""
    out = None
    for top, keep_top, bottom in _spans(blocks[0], halo):
        for left, keep_left, right in _spans(blocks[1], halo):
            rows, columns = min(blocks[0], TILE), min(blocks[1], TILE)
            tile = x[top * unit_in:(top + rows) * unit_in, left * unit_in:(left + columns) * unit_in]
            bucket = [-(-n // BUCKET) * BUCKET * unit_in for n in (rows, columns)]
            result = np.asarray(run(pad(tile, *bucket)[None], (rows, columns)))[0]
            if out is None:
                out = np.empty((blocks[0] * unit_out, blocks[1] * unit_out, result.shape[-1]), result.dtype)
            out[keep_top * unit_out:bottom * unit_out, keep_left * unit_out:right * unit_out] = result[
                (keep_top - top) * unit_out:(bottom - top) * unit_out,
                (keep_left - left) * unit_out:(right - left) * unit_out]
    return out


@partial(jax.jit, static_argnums=0)
def _analysis(model: JndCodec, params, tile, quality, blocks):
    x = tile.astype(jnp.float32) / 255.0
    return model.apply({"params": params}, x, quality, blocks, method="analysis")


@partial(jax.jit, static_argnums=0)
def _synthesis(model: JndCodec, params, tile, quality, blocks):
    x = model.apply({"params": params}, tile, quality, blocks, method="synthesis")
    return jnp.clip(jnp.round(255.0 * x), 0, 255).astype(jnp.uint8)


@lru_cache(maxsize=8)
def _load(path: str, stamp: float) -> ImageCodec:
    return ImageCodec(modelfile.load(path))


def load(name_or_path: str = "jnd-base") -> ImageCodec:
    """The codec of a shipped model (by name) or of a model file (by path).

    Raises:
      JndError: no such model, or a file that is none.
    """
    path = modelfile.find(name_or_path)
    return _load(str(path), path.stat().st_mtime)
