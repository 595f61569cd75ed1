"""The codec that people use: images of 8 to 16 bits to .jnd bytes and back, with one model file."""

from __future__ import annotations

import itertools
import json
import numbers
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jnd_jax import bitstream, codec, images, metrics, modelfile, residual, search, zoo
from jnd_jax import policy as policies
from jnd_jax.codec import coding, complexity, distortion, float_coding, hyper, layers, regions
from jnd_jax.codec.coding import Quality
from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.codec.linear import BLOCK, BUCKET, TILE, round_up
from jnd_jax.codec.wavefront import Rows
from jnd_jax.devices import jit
from jnd_jax.errors import JndError
from jnd_jax.memory import give_back
from jnd_jax.metrics import levels
from jnd_jax.metrics.psnr import mean_square

QUALITIES = tuple(q / 10 for q in range(hyper.QUALITY_MAX + 1))

# By metric, what photographs typically reach at the qualities 0, 25, 50, 75, 100: where searches begin
# (bench/target_search.py --curve).
_TYPICAL = {
    "psnr": (26.8, 29.6, 32.7, 35.9, 38.4),
    "psnr-hvs": (26.6, 31.6, 37.1, 42.6, 47.1),
    "ssimulacra2": (11.8, 47.3, 69.7, 82.3, 88.4),
    "butteraugli": (3.9, 2.36, 1.46, 0.93, 0.66),
    "cvvdp": (8.31, 8.97, 9.44, 9.76, 9.92),
    "aic-strict": (5.4, 3.3, 1.8, 0.76, 0.38),
}
TYPICAL = {
    metric: partial(np.interp, xp=np.linspace(0, 100, len(values)), fp=values) for metric, values in _TYPICAL.items()
}

# Chunks that a caller may add.
EXTRAS = {"icc", "exif", "xmp", "alpha", "density", "dicom", "note"}

# Blocks around a tile that the analysis and its correction see, at most. What lies beyond them changes no latent of the shipped
# models by more than 2e-5 steps, and an encoder may approximate.
_ANALYSIS_HALO_MAX = 5

# Blocks that a row of tiles gives at most, in images so wide that it would give more: 3.6 kB of latents each, as analysed and
# corrected.
_TILE_ROW_BLOCKS = 2**14

# Quality of regions above that of the background, where it is not given.
_REGION_STEP = 25.0

# How often latents may be corrected, see `ImageCodec._corrected`, and what each time takes off the weight of the distortion in
# rounding, since latents spread. A fourth time gains nothing.
EFFORTS = range(4)
_WEIGHT_LESS = 0.05


class ImageCodec:
    """Encodes and decodes RGB and grey images of any size and of 8 to 16 bits a sample.

    Attributes:
      name: the model's name.
      hash: 16 hexadecimal digits that its streams carry.
    """

    def __init__(self, model: modelfile.ModelFile):
        """Raises JndError for a model without coding tables (one that only trains)."""
        self.name, self.hash = model.name, model.hash
        try:
            self._set_up(model)
        except JndError:
            raise
        # A model file may hold anything under the names that are looked for.
        except Exception as error:
            raise JndError(
                f"The model {model.name!r} lacks parts or has others ({error!r}): get its file again."
            ) from error

    def _set_up(self, model: modelfile.ModelFile) -> None:
        built = codec.build(model.config)
        self._params = jax.device_put(model.params)  # `jnp.asarray` would compile a program for each shape.
        self._latents: Any
        if isinstance(built, LappedCodec) and model.tables:
            self._latents = coding.latent_coder(model.params, model.tables)
        elif isinstance(built, HyperpriorCodec) and model.tables:
            self._latents = float_coding.FloatCoder(built, model.params, model.tables)
        else:
            raise JndError(
                f"Model {model.name!r} can be trained and measured, but has no tables to code with: "
                "use one that keeps a contract of jnd_jax.codec.contract."
            )
        self._model: Any = built
        # The receptive field of other transforms is not known: they run on whole images.
        tiled = type(built) is LappedCodec
        self._analysis_halo = min(_halo(built.analysis_depths), _ANALYSIS_HALO_MAX) if tiled else None
        self._synthesis_halo = _halo(built.synthesis_depths) if tiled else None
        self._process = os.getpid()

    def encode(
        self,
        image: np.ndarray,
        quality: float | None = None,
        *,
        bpp: float | None = None,
        target: str | search.Target | None = None,
        policy: str | policies.Policy | None = None,
        mask: np.ndarray | None = None,
        region_quality: float | None = None,
        extras: Mapping[str, bytes] | None = None,
        coder: str = "constriction",
        effort: int = 0,
    ) -> bytes:
        """The .jnd file of an image.

        Args:
          image: (H, W, 3) RGB or (H, W) grey, sides 1..65535; uint8, or uint16, which is coded with the bits that its
            largest sample needs, 9 at least.
          quality: 0..100 in steps of 0.1, default 50. Excludes `bpp`, `target` and `policy`.
          bpp: the best file of at most this many bits per pixel.
          target: what the smallest file must reach, as `search.parse_target` reads it: "psnr=38", "aic=1", ... The
            file's note says what it reached (but for bpp, which the file shows by itself).
          policy: what a class of content must keep: one of `jnd_jax.policy.names()`, a TOML file, or a `Policy`. The file's
            note says what it reached.
          mask: (H, W) uint8, the quality by region: 255 where it is `region_quality`, 0 in the background, linear
            between. A region is never coded below its background.
          region_quality: 0..100, default: that of the policy, or 25 above the background, whatever a search finds.
          extras: further chunks by name (see `bitstream`): icc, exif, xmp, alpha, density, dicom, note. Where the alpha is
            zero, nobody sees what the pixels are: they are smoothed, and a target does not count them.
          coder: the range coder, one of `bitstream.CODERS`.
          effort: 0..3, how often the encoder looks at what it would decode and corrects the latents: fewer bits at the same
            look, for more time and memory (docs/use.md). Decoders need not know.

        Raises:
          JndError: for anything else, a target or a policy's floor that no quality reaches, or a coder that is not
            installed.
        """
        self._check_process()
        if sum(v is not None for v in (quality, bpp, target, policy)) > 1:
            raise JndError("Give one of quality, bpp, target and policy.")
        if len(self.qualities) == 1 and not (quality in (None, *self.qualities) and bpp is target is policy is None):
            raise JndError(f"The model {self.name} has one rate; leave quality, bpp, target and policy out.")
        check_image(image)
        if coder not in bitstream.CODERS:
            raise JndError(f"Use one of the coders {', '.join(bitstream.CODERS)}, not {coder!r}.")
        self._check_effort(effort)
        if isinstance(policy, str):
            policy = policies.load(policy)
        if not isinstance(policy, policies.Policy | None):
            raise JndError(f"A policy must be a name or a Policy, not {type(policy).__name__}.")
        if region_quality is not None and mask is None:
            raise JndError("Give region_quality with a mask.")
        if mask is not None and isinstance(self._model, HyperpriorCodec):
            raise JndError(f"The model {self.name} has no quality by region: leave the mask out.")
        if policy is not None and region_quality is None:
            region_quality = policy.region_quality
        _check_mask(mask, region_quality, image.shape[:2])
        alpha = _check_extras(image, extras or {})
        seen = image if alpha is None else images.smooth_hidden(image, alpha)
        # A file without loss holds the hidden pixels too, and needs their depth.
        bound = None if policy is None else policy.max_error
        depth = bit_depth(image if bound == residual.LOSSLESS else seen)
        if bound is not None:
            residual.check_bound(bound, depth)
        encode = lambda picture, q: self._encode(picture, q, depth, mask, region_quality, extras or {}, coder, effort)
        compare = partial(measure, visible=None if alpha is None else alpha > 0)
        if policy is not None:
            return self._keep(image, seen, encode, policy, compare)
        if bpp is None and target is None:
            return encode(seen, 50.0 if quality is None else quality)
        goal = _goal(target, bpp)
        found = search.reach(seen, encode, self.decode, QUALITIES, goal, measure=compare, typical=TYPICAL)
        return found.data if goal.metric == "bpp" else _with_note(found.data, _reached(goal, found.value))

    def _keep(
        self, image: np.ndarray, seen: np.ndarray, encode: Callable, policy: policies.Policy, measure: Callable
    ) -> bytes:
        """The file that a policy asks for, of an image and of what is coded of it."""
        original = image if policy.max_error == residual.LOSSLESS else seen

        def bounded(data: bytes) -> bytes:
            if policy.max_error is None:
                return data
            header, chunks = bitstream.unpack(data)
            chunk = residual.pack(original, self.decode(data), policy.max_error, header.bit_depth)
            return bitstream.pack(header, chunks | {"residual": chunk})

        found, kept = search.reach_above(
            seen,
            encode,
            self.decode,
            QUALITIES,
            policy.target,
            policy.floor,
            bounded,
            measure=measure,
            typical=TYPICAL,
        )
        note = {"policy": policy.name, **_reached(policy.target, found.value), "floor": _reached(policy.floor, kept)}
        if policy.max_error is not None:
            note["max_error"] = int(policy.max_error)
        return _with_note(found.data, note)

    def _encode(
        self,
        image: np.ndarray,
        quality: float,
        depth: int,
        mask: np.ndarray | None,
        region_quality: float | None,
        extras: Mapping[str, bytes],
        coder: str,
        effort: int,
    ) -> bytes:
        level, chunks = _level(quality), dict(extras)
        levels: Quality = level
        if mask is not None:
            inside = _level(min(quality + _REGION_STEP, 100.0) if region_quality is None else region_quality)
            levels = regions.from_mask(mask, level, inside, *(round_up(side) // BLOCK for side in mask.shape))
            chunks["regions"] = regions.pack(levels)
        grey = image.ndim == 2
        colour = np.broadcast_to(image[..., None], (*image.shape, 3)) if grey else image
        if effort:
            energy = self._energy(colour, depth, 1 - _WEIGHT_LESS * effort)
            y, z = self._corrected(colour, levels, depth, energy, effort)
            coded = self._latents.encode_y(y, z, levels, coder, energy)
        else:
            strips = self._analysis_strips(colour, levels, depth)
            z, coded = self._latents.encode_strips(strips, *_blocks(colour), levels, coder, self._energy(colour, depth))
        chunks |= {"z": self._latents.encode_z(z, level, coder), "y": coded}
        height, width = image.shape[:2]
        header = bitstream.Header(self.hash, width, height, level, coder, depth, grey)
        return bitstream.pack(header, chunks)

    def _corrected(self, image: np.ndarray, quality: Quality, depth: int, energy: coding.Energy | None, times: int):
        """Latents (h, w, M) of an (H, W, 3) image to be coded, and its hyper-latents.

        The latents move, again and again, by `LappedCodec.corrected` for what a decoder would have: so they answer to how they are
        rounded, and to what is seen.
        """
        latents = np.concatenate(list(self._analysis_strips(image, quality, depth)))
        analysed, to_code = np.split(latents, 2, axis=-1)
        z, y = self._latents.hyper_latents(analysed), to_code.copy()
        del latents, analysed, to_code
        for _ in range(times):
            decoded = self._latents.as_decoded(y, z, quality, energy)
            top = 0
            for strip in self._correction_strips(image, y, decoded, quality, depth):
                y[top : top + len(strip)] = strip
                top += len(strip)
        return y, z

    def _correction_strips(self, image, y, decoded, quality: Quality, bit_depth: int) -> Iterator[np.ndarray]:
        """`LappedCodec.corrected` in strips of rows, of an (H, W, 3) image and (h, w, M) latents."""
        blocks = _blocks(image)

        def rows_of(top: int, bottom: int) -> np.ndarray:
            """Pixels of each block beside its latents."""
            pixels = _pad(image[None, top * BLOCK : bottom * BLOCK], (bottom - top) * BLOCK, blocks[1] * BLOCK)
            pixels = np.asarray(layers.space_to_depth(jnp.asarray(pixels, jnp.float32), BLOCK))
            return np.concatenate([y[None, top:bottom], decoded[None, top:bottom], pixels], axis=-1)

        run = partial(_correction, self._model, (1 << bit_depth) - 1, self._params)
        quality = np.asarray([quality], np.float32)
        strips = _strips(rows_of, quality, blocks, 1, 1, self._synthesis_halo, run, _pad)
        return map(operator.itemgetter(0), strips)

    def _check_effort(self, effort: int) -> None:
        if not isinstance(effort, numbers.Integral) or isinstance(effort, bool) or effort not in EFFORTS:
            raise JndError(f"An effort must be an integer from {EFFORTS[0]} to {EFFORTS[-1]}, not {effort!r}.")
        if effort and not isinstance(self._model, LappedCodec):
            raise JndError(f"The model {self.name} knows no effort: leave it out.")

    def _energy(self, image: np.ndarray, depth: int, weight: float = 1.0) -> coding.Energy | None:
        """The argument `energy` of `LatentCoder.encode_y`, times `weight`: what an error in a latent costs where it is seen."""
        if isinstance(self._model, HyperpriorCodec):
            return None
        share, squared = self._model.masked_share, weight * self._latents.synthesis_energy
        if not share:
            return lambda rows, channels, half: squared[channels]
        run = lambda tile, *_: _log_activity((1 << depth) - 1, tile)
        strips = _strips(_rows_of(image[None], BLOCK), np.zeros(1), _blocks(image), BLOCK, 1, 0, run, _pad)
        activity = hyper.halves(np, np.concatenate([strip[0] for strip in strips]))
        masked = weight * self._masked_energy
        return lambda rows, channels, half: distortion.energy(
            np, share, squared[channels], masked[:, channels], activity[half][rows]
        )

    @cached_property
    def _masked_energy(self) -> np.ndarray:
        return distortion.masked_energy(np, self._latents.synthesis)

    def decode(self, data: bytes, crop: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """The (H, W, 3) RGB or (H, W) grey image of a .jnd file, uint8, or uint16 for more than 8 bits.

        Args:
          data: the file.
          crop: (left, top, width, height) of the part to decode, in pixels; the networks run on that part alone.

        Raises:
          JndError: for a file that is damaged, not a .jnd file, or made with another model, and for a part that does
            not lie in the image.
        """
        self._check_process()
        header, chunks = bitstream.unpack(data)
        whole = (0, 0, header.width, header.height)
        part = images.Crop(*_rectangle(whole if crop is None else crop), header.width, header.height)
        return self._pixels(header, chunks, part)

    def decode_partial(self, data: bytes) -> tuple[np.ndarray, float]:
        """The image of a file that ends too soon, as far as it arrived, and the share of its latents' bytes that did.

        The first channel groups come first, and what is missing is taken as predicted: the image is whole, with less and
        less detail. Opacity and the bound on errors are missing unless they arrived.

        Raises:
          JndError: as `decode`, and where too little arrived.
        """
        self._check_process()
        header, chunks, share = bitstream.arrived(data)
        part = images.Crop(0, 0, header.width, header.height, header.width, header.height)
        return self._pixels(header, chunks, part, partial=True), share

    def _pixels(
        self, header: bitstream.Header, chunks: Mapping[str, bytes], part: images.Crop, partial: bool = False
    ) -> np.ndarray:
        z, quality = self._hyper_latents(header, chunks), regions.of_file(header, chunks)
        latents: Any = self._latents.decode_strips(chunks["y"], z, quality, header.coder, partial=partial)
        rows, columns = (
            _blocks_of(start, length, round_up(side) // BLOCK, self._synthesis_halo)
            for start, length, side in (
                (part.top, part.height, header.height),
                (part.left, part.width, header.width),
            )
        )
        if isinstance(quality, np.ndarray):
            quality = quality[rows, columns]
        arrived = Rows()

        def rows_of(top: int, bottom: int) -> np.ndarray:
            top, bottom = top + rows.start, bottom + rows.start
            while arrived.stop < bottom:
                arrived.extend(next(latents), top)
            if arrived.stop == round_up(header.height) // BLOCK:
                latents.close()  # Frees what it keeps.
            return arrived[top:bottom][None, :, columns]

        blocks = rows.stop - rows.start, columns.stop - columns.start
        strips = self._synthesis_strips(rows_of, blocks, [quality], header.bit_depth)
        shape = (part.height, part.width) + (() if header.grey else (3,))
        pixels = np.empty(shape, np.uint8 if header.bit_depth == 8 else np.uint16)
        left, at = part.left - BLOCK * columns.start, BLOCK * rows.start - part.top
        for (strip,) in strips:
            first = max(at, 0)
            inside = strip[first - at : part.height - at, left : left + part.width]
            pixels[first : first + len(inside)] = images.mean_channel(inside) if header.grey else inside
            at += len(strip)
            del strip, inside  # Before the next one is made.
            if at >= part.height:
                break
        return residual.apply(chunks["residual"], pixels, header.bit_depth, part) if "residual" in chunks else pixels

    def decode_latents(
        self, header: bitstream.Header, chunks: Mapping[str, bytes], partial: bool = False
    ) -> hyper.Coded:
        """The latents of an unpacked file, whose y may end too soon if `partial`; raises JndError as `decode` does."""
        z, quality = self._hyper_latents(header, chunks), regions.of_file(header, chunks)
        return self._latents.decode_y(chunks["y"], z, quality, header.coder, partial=partial)

    def _hyper_latents(self, header: bitstream.Header, chunks: Mapping[str, bytes]) -> np.ndarray:
        if header.model != self.hash:
            raise JndError(
                f"This file was made with model {header.model}, not {self.name} ({self.hash}): "
                "decode it with the model that made it."
            )
        return coding.z_of_file(self._latents, header, chunks)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise JndError(
                "This process was forked from one that had loaded the model, whose threads it lacks: start processes with "
                "the method 'spawn', or load the model in them only."
            )

    def multiply_adds(self) -> dict[str, float]:
        """Thousands of multiply-adds a pixel, see `codec.complexity`."""
        if isinstance(self._model, HyperpriorCodec):
            return complexity.multiply_adds_of_parts(self._model, self._params)
        return complexity.multiply_adds(self._model, self._params)

    @property
    def qualities(self) -> tuple[float, ...]:
        """All that it has, ascending: one for a model of one rate."""
        return (50.0,) if getattr(self._model, "one_rate", False) else QUALITIES

    def analyse(self, image: np.ndarray, quality: Quality, bit_depth: int = 8) -> np.ndarray:
        """Gained latents (h, w, M) of an (H, W, 3) image of this depth at integer qualities 0..1000: one, or (h, w)."""
        channels = self._model.latents if isinstance(self._model, LappedCodec) else None
        return np.concatenate([strip[..., :channels] for strip in self._analysis_strips(image, quality, bit_depth)])

    def _analysis_strips(self, image: np.ndarray, quality: Quality, bit_depth: int) -> Iterator[np.ndarray]:
        """The argument `strips` of `LatentCoder.encode_strips`."""
        run = partial(_analysis, self._model, (1 << bit_depth) - 1, self._params)
        quality, rows = np.asarray([quality], np.float32), _rows_of(image[None], BLOCK)
        strips = _strips(rows, quality, _blocks(image), BLOCK, 1, self._analysis_halo, run, _pad)
        # By map, as a generator would hold on to the last strip.
        return map(operator.itemgetter(0), strips)

    def synthesise(self, y_hat: np.ndarray, quality: Quality, bit_depth: int = 8) -> np.ndarray:
        """(16 h, 16 w, 3) image of gained latents (h, w, M) at integer qualities 0..1000: one, or (h, w).

        It is uint8, or uint16 for a `bit_depth` above 8.
        """
        return self.synthesise_batch(y_hat[None], [quality], bit_depth)[0]

    def synthesise_batch(self, y_hat: np.ndarray, qualities: Sequence[Quality], bit_depth: int = 8) -> np.ndarray:
        """(B, 16 h, 16 w, 3) images of gained latents (B, h, w, M), as `synthesise`: all with one quality, or none."""
        strips = self._synthesis_strips(_rows_of(y_hat, 1), y_hat.shape[1:3], qualities, bit_depth)
        return np.concatenate(list(strips), axis=1)

    def _synthesis_strips(
        self, rows: Callable[[int, int], np.ndarray], blocks: Sequence[int], qualities: Any, bit_depth: int
    ) -> Iterator[np.ndarray]:
        run = partial(_synthesis, self._model, (1 << bit_depth) - 1, self._params)
        quality = np.asarray(qualities, np.float32)
        return _strips(rows, quality, blocks, 1, BLOCK, self._synthesis_halo, run, _pad_zero)


def _reached(goal: search.Target, value: float) -> dict[str, Any]:
    """What a file's note says of a target; "jnd_error" is the rms error of the metric's JNDs against people's."""
    digits = lambda number: float(f"{number:.6g}")
    note: dict[str, Any] = {"metric": goal.metric, "target": digits(goal.value), "reached": digits(value)}
    if goal.scale:
        note |= {"scale": goal.scale, "jnd": goal.jnds}
        error = levels.SCALES[goal.scale].errors.get(goal.metric)
        note |= {} if error is None else {"jnd_error": error}
    return note


def _with_note(data: bytes, note: Mapping[str, Any]) -> bytes:
    """The file with a note, beside what its caller has noted; a note of the caller's that is no object stays alone."""
    header, chunks = bitstream.unpack(data)
    if "note" in chunks:
        try:
            note = {**note, **json.loads(chunks["note"])}
        except (ValueError, TypeError, RecursionError):
            return data
    return bitstream.pack(header, chunks | {"note": json.dumps(note, separators=(",", ":")).encode()})


def _goal(target: str | search.Target | None, bpp: float | None) -> search.Target:
    if bpp is not None:
        if not _is_number(bpp) or not 0 < bpp < float("inf"):
            raise JndError(f"A size must be a positive number of bits per pixel, not {bpp!r}.")
        return search.Target("bpp", bpp)
    if isinstance(target, str):
        return search.parse_target(target)
    if not isinstance(target, search.Target) or not _is_number(target.value):
        raise JndError(f"A target must be a text such as 'psnr=38' or a Target with a number, not {target!r}.")
    return target


def _rectangle(crop: Any) -> tuple[int, int, int, int]:
    try:
        left, top, width, height = map(operator.index, crop)
    except (TypeError, ValueError) as error:
        raise JndError(f"A part must be four integers, left, top, width and height, not {crop!r}.") from error
    return left, top, width, height


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_extras(image: np.ndarray, extras: Mapping[str, bytes]) -> np.ndarray | None:
    """The opacity among further chunks; raises JndError for chunks that no reader would take."""
    unknown = set(extras) - EXTRAS
    if unknown:
        raise JndError(
            f"Further chunks may be {', '.join(sorted(EXTRAS))}, not {', '.join(map(str, sorted(unknown)))}."
        )
    for name, content in extras.items():
        if not isinstance(content, bytes):
            raise JndError(f"The chunk {name} must be bytes, not {type(content).__name__}.")
    return images.from_chunks(image, extras).alpha


def check_image(image: np.ndarray) -> None:
    """Raises JndError unless `image` is (H, W, 3) or (H, W), uint8 or uint16, with sides in 1..65535."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype not in (np.uint8, np.uint16)
        or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    ):
        what = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise JndError(
            f"An image must be a uint8 or uint16 array of shape (height, width, 3) or (height, width), not {what}: "
            "convert it first."
        )
    height, width = image.shape[:2]
    if not bitstream.fits(width, height):
        raise JndError(
            f"An image of {width}x{height} pixels cannot be coded: use sides of 1 to {bitstream.MAX_SIDE} "
            f"pixels and at most {bitstream.MAX_PIXELS} pixels in all."
        )


def bit_depth(image: np.ndarray) -> int:
    """Bits that the samples of an image are coded with: 8 of uint8, those of the largest sample of uint16, 9 at least."""
    return 8 if image.dtype == np.uint8 else max(9, int(image.max()).bit_length())


def measure(metric: str, reference: np.ndarray, image: np.ndarray, visible: np.ndarray | None = None) -> float:
    """A metric of an image that was coded and of what was decoded.

    PSNR is measured at full depth, all others of 8-bit versions.

    Args:
        metric: a name of `jnd_jax.metrics`.
        reference, image: as `ImageCodec.encode` takes the one and `ImageCodec.decode` gives the other.
        visible: (H, W) bool, the pixels that count, all without it. PSNRs are means over these; other metrics are of the
            rectangle that holds them, with no error elsewhere in it.
    """
    if visible is not None:
        if not visible.any():
            return metrics.measure(metric, *2 * [np.zeros((16, 16, 3), np.uint8)])
        rows, columns = (_reach(np.asarray(visible.any(axis))) for axis in (1, 0))
        reference, image, visible = (x[rows, columns] for x in (reference, image, visible))
        image = np.where(visible if image.ndim == 2 else visible[..., None], image, reference)
        return measure(metric, reference, image) + (10 * np.log10(visible.mean()) if metric.startswith("psnr") else 0.0)
    levels = (1 << bit_depth(reference)) - 1
    if levels > 255 and metric == "psnr":
        mse = mean_square(reference, image)
        return float("inf") if mse == 0 else 10 * np.log10(levels**2 / mse)
    seen = (_as_seen(x, levels) for x in (reference, image))
    return metrics.measure(metric, *(seen if metric == "psnr" else map(_large_enough, seen)))


def _large_enough(image: np.ndarray) -> np.ndarray:
    """The image, continued to 16 pixels a side, as metrics need a few."""
    missing = [(0, max(0, 16 - side)) for side in image.shape[:2]]
    return np.pad(image, [*missing, (0, 0)], mode="edge")


def _reach(marked: np.ndarray) -> slice:
    """The smallest slice with all that is marked, of 16 or all."""
    first, last = np.flatnonzero(marked)[[0, -1]]
    first = max(0, min(first, last - 15))
    return slice(int(first), int(max(last + 1, first + 16)))


def _as_seen(image: np.ndarray, levels: int) -> np.ndarray:
    """(H, W, 3) uint8 of an image whose samples are 0..levels."""
    image = images.eight_bits(image, levels)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)


def _check_mask(mask: np.ndarray | None, region_quality: float | None, shape: tuple[int, int]) -> None:
    if region_quality is not None:
        _level(region_quality)
    if mask is not None and (not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != shape):
        what = f"{mask.dtype} of {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise JndError(
            f"A mask of regions must be uint8 of the image's height and width {shape}, not {what}: draw it on the image "
            "itself (that of a photo to be turned, as it is shown)."
        )


def _level(quality: float) -> int:
    level = round(10 * float(quality)) if _is_number(quality) and np.isfinite(quality) else -1
    if not 0 <= level <= hyper.QUALITY_MAX:
        raise JndError(f"Quality must be a number from 0 to 100, not {quality!r}.")
    return level


def _pad(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.pad(x, _missing(x, height, width), mode="edge")


def _pad_zero(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.pad(x, _missing(x, height, width))


def _missing(x: np.ndarray, height: int, width: int) -> list[tuple[int, int]]:
    """What (..., H, W, C) lacks at the bottom and at the right."""
    return [(0, 0)] * (x.ndim - 3) + [(0, height - x.shape[-3]), (0, width - x.shape[-2]), (0, 0)]


def _halo(depths: tuple[int, int]) -> int:
    """Blocks around a block that its transform reads: 3x3 convolutions at 1/4 and 1/8, and the border filter."""
    return round_up(max(BLOCK // 2, 4 * (1 + depths[0]) + 8 * depths[1]), BLOCK) // BLOCK


def _blocks_of(start: int, length: int, blocks: int, halo: int | None) -> slice:
    """Of `blocks` along a side, those that pixels `start` to `start + length` are made of.

    At the end of the side they are so many that they are padded as the whole side is, which its pixels show.
    """
    if halo is None:
        return slice(0, blocks)
    first, end = max(start // BLOCK - halo, 0), min(-(-(start + length) // BLOCK) + halo, blocks)
    if end == blocks:
        missing = -blocks % BUCKET if blocks <= TILE else 0
        first = max(first - -(end - first + missing) % BUCKET, 0)
    return slice(first, end)


def _tile_rows(columns: int, halo: int) -> int:
    """Rows of the tiles of an image so many blocks wide: TILE, or less where a row of them would give too many."""
    rows = max(_TILE_ROW_BLOCKS // columns, 1) + 2 * halo
    return min(round_up(rows, BUCKET), TILE)


def _spans(blocks: int, halo: int, tile: int) -> list[tuple[int, int, int]]:
    """(start, first kept, end of kept) of the tiles along one side of `blocks` blocks, padded if they are at most TILE."""
    if blocks <= tile:
        return [(0, 0, blocks)]
    last = (round_up(blocks, BUCKET) if blocks <= TILE else blocks) - tile
    spans, kept = [], 0
    while kept < blocks:
        start = min(max(kept - halo, 0), last)
        end = blocks if start == last else min(start + tile - halo, blocks)
        spans.append((start, kept, end))
        kept = end
    return spans


def _blocks(image: np.ndarray) -> list[int]:
    """Rows and columns of blocks that cover an image, whole hyper-latents."""
    return [round_up(side) // BLOCK for side in image.shape[:2]]


def _rows_of(x: np.ndarray, unit: int) -> Callable[[int, int], np.ndarray]:
    """The argument `rows` of `_strips` for an array (B, ., ., C) with blocks of `unit` rows."""
    return lambda top, bottom: x[:, top * unit : bottom * unit]


def _strips(
    rows_of: Callable[[int, int], np.ndarray],
    quality: np.ndarray,
    blocks: Sequence[int],
    unit_in: int,
    unit_out: int,
    halo: int | None,
    run: Callable,
    pad: Callable,
) -> Iterator[np.ndarray]:
    """Runs a transform over overlapping tiles, one row of them after the other, and gives its result in strips of rows.

    Args:
      rows_of: (first, last) row of blocks -> what is transformed of them, (B, ., ., C). It may end before the last block does:
        `pad` continues each tile.
      quality: (B,), or (B, *blocks) of which each tile gets its own part.
      blocks: rows and columns of them.
      unit_in, unit_out: rows and columns of a block, before and after.
      halo: blocks around a block that it depends on; None: all of them, so that there is one tile.
      run: (tile (B, ., ., C), quality, (rows, columns) of blocks) -> (B, ., ., C').
    """
    if halo is None:
        yield np.asarray(run(pad(rows_of(0, blocks[0]), *(n * unit_in for n in blocks)), quality, (None, None)))
        return

    tile_rows = _tile_rows(blocks[1], halo)

    def strip(top: int, keep_top: int, bottom: int) -> np.ndarray:
        rows, columns = min(blocks[0] - top, tile_rows), min(blocks[1], TILE)
        x, out = rows_of(top, top + rows), None
        for left, keep_left, right in _spans(blocks[1], halo, TILE):
            tile = x[:, :, left * unit_in : (left + columns) * unit_in]
            bucket = [round_up(n, BUCKET) for n in (rows, columns)]
            here = quality
            if quality.ndim > 1:
                here = _pad(quality[:, top : top + rows, left : left + columns, None], *bucket)[..., 0]
            result = np.asarray(run(pad(tile, *(n * unit_in for n in bucket)), here, (rows, columns)))
            if out is None:
                shape = len(x), (bottom - keep_top) * unit_out, blocks[1] * unit_out, result.shape[-1]
                out = np.empty(shape, result.dtype)
            out[:, :, keep_left * unit_out : right * unit_out] = result[
                :,
                (keep_top - top) * unit_out : (bottom - top) * unit_out,
                (keep_left - left) * unit_out : (right - left) * unit_out,
            ]
        assert out is not None
        if max(blocks) > TILE:
            give_back()
        return out

    # By map, as a generator would hold on to the last strip.
    yield from itertools.starmap(strip, _spans(blocks[0], halo, tile_rows))


def _inside(model: nn.Module, blocks: Any) -> tuple[Any, ...]:
    """The argument that tells a lapped codec which blocks of a tile belong to the image."""
    return (blocks,) if isinstance(model, LappedCodec) else ()


@jit(0, 1)
def _analysis(model: nn.Module, levels: int, params, tile, quality, blocks):
    x = tile.astype(jnp.float32) / float(levels)
    method = "to_code" if isinstance(model, LappedCodec) else "analysis"
    with jax.default_matmul_precision("highest"):
        return model.apply({"params": params}, x, quality, *_inside(model, blocks), method=method)


@jit(0, 1)
def _correction(model: nn.Module, levels: int, params, tile, quality, blocks):
    latents = params["log_gain"].shape[-1]
    y, y_hat = tile[..., :latents], tile[..., latents : 2 * latents]
    x = layers.depth_to_space(tile[..., 2 * latents :], BLOCK) / float(levels)
    return model.apply({"params": params}, y, y_hat, x, quality, *_inside(model, blocks), method="corrected")


@jit(0)
def _log_activity(levels: int, tile):
    return distortion.log_activity(tile.astype(jnp.float32) / float(levels))


@jit(0, 1)
def _synthesis(model: nn.Module, levels: int, params, tile, quality, blocks):
    # What is promised of decoded pixels holds on every machine: no operands rounded to bfloat16 or TF32.
    with jax.default_matmul_precision("highest"):
        x: Any = model.apply({"params": params}, tile, quality, *_inside(model, blocks), method="synthesis")
    return jnp.clip(jnp.round(float(levels) * x), 0, levels).astype(jnp.uint8 if levels < 256 else jnp.uint16)


@lru_cache(maxsize=8)
def _load(path: str, stamp: float) -> ImageCodec:
    # `stamp` is a part of the cache's key: a file that has changed is loaded anew.
    return ImageCodec(modelfile.load(path))


def load(name_or_path: str = zoo.DEFAULT) -> ImageCodec:
    """The codec of a shipped model (by name) or of a model file (by path).

    Raises:
      JndError: no such model, or a file that is none.
    """
    path = modelfile.find(name_or_path)
    return _load(str(path), path.stat().st_mtime)
