"""Previews: a small picture of a .jnd file, many times sooner than the whole one. Imports no jax."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from jnd_jax import bitstream, images, modelfile
from jnd_jax.codec import coding, preview, regions
from jnd_jax.codec.linear import synthesis_matrices
from jnd_jax.errors import JndError

SCALES = preview.SCALES
# Channel groups that previews are made of: those after them hold frequencies too high to show.
_GROUPS = {16: 1, 8: 2, 4: 3}


class Previewer:
    """Decodes previews of the files of one model.

    Attributes:
      hash: of the model, 16 hexadecimal digits.
    """

    def __init__(self, model: modelfile.ModelFile):
        self.hash = model.hash
        self._latents = coding.latent_coder(model.params, model.tables)
        synthesis, postfilter = synthesis_matrices(model.params)
        self._kernels = cache(lambda channels, scale: preview.kernels(synthesis[:channels], postfilter, scale))

    def decode(self, data: bytes, scale: int) -> images.Picture:
        """An 8-bit picture of 1/`scale` of the file's width and height, rounded up, with its metadata.

        Pixels are means over cells of `scale` x `scale` pixels of the linear synthesis of the first channel groups: the
        residual network and the chunk `residual` are left out.

        Args:
          data: a .jnd file of this model.
          scale: one of `SCALES`.

        Raises:
          JndError: the file is damaged or of another model, or `scale` is another number.
        """
        if scale not in SCALES:
            raise JndError(f"Give a scale of {', '.join(map(str, SCALES))}, not {scale}.")
        header, chunks = bitstream.unpack(data)
        if header.model != self.hash:
            raise JndError(f"This file was made with model {header.model}, not {self.hash}: name that model.")
        z, quality = coding.z_of_file(self._latents, header, chunks), regions.of_file(header, chunks)
        y = self._latents.decode_y(chunks["y"], z, quality, header.coder, _GROUPS.get(scale)).y_hat
        channels = y.shape[-1]
        inverse_gain = np.exp(self._latents.log_inverse_gain_at(quality)[..., :channels]).astype(np.float32)
        x = preview.preview(y * inverse_gain, self._kernels(channels, scale))
        height, width = (-(-side // scale) for side in (header.height, header.width))
        # Decoded files of more than 8 bits hold the levels as they are, in 16; those of DICOM would be nearly black.
        as_they_are = header.bit_depth > 8 and "dicom" not in chunks
        white = 255 * ((1 << header.bit_depth) - 1) / 65535 if as_they_are else 255
        pixels = np.clip(np.round(white * (x[:height, :width] + 0.5)), 0, white).astype(np.uint8)
        if header.grey:
            pixels = images.mean_channel(pixels)
        alpha = None
        if "alpha" in chunks:
            alpha = images.decode_lossless(chunks["alpha"], (header.height, header.width), "alpha channel")
            alpha = np.asarray(Image.fromarray(images.eight_bits(alpha)).reduce(scale))
        return images.Picture(pixels, alpha, chunks.get("icc"), chunks.get("exif"), chunks.get("xmp"))


def of_model(model: modelfile.ModelFile) -> Previewer | None:
    """The previewer of a model; None for models with transforms of their own."""
    return Previewer(model) if model.is_lapped else None


@lru_cache(maxsize=8)
def load(name_or_path: str | Path) -> Previewer:
    """The previewer of a shipped model (by name) or of a model file (by path); JndError where there is none."""
    model = modelfile.load(modelfile.find(name_or_path))
    previewer = of_model(model)
    if previewer is None:
        raise JndError(f"Model {model.name!r} has transforms of its own and no previews: decode the whole file.")
    return previewer


def fitting_scale(width: int, height: int, wanted: tuple[int, int]) -> int:
    """Largest of `SCALES` whose preview of a (width, height) image has at least the wanted sides; 1 if none has."""
    fits = lambda scale: -(-width // scale) >= wanted[0] and -(-height // scale) >= wanted[1]
    return max(filter(fits, SCALES), default=1)
