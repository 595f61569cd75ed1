"""A learned image codec in JAX whose training knows what people cannot see.

`load(name_or_path)` gives a codec: `codec.encode(image) -> bytes`, `codec.decode(bytes) -> image`.
Importing the package imports no array library; `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jnd_jax.errors import JndError

if TYPE_CHECKING:
    from jnd_jax.image_codec import ImageCodec

__version__ = "0.1.0"
__all__ = ["JndError", "load"]


def load(name_or_path: str = "jnd-perceptual") -> ImageCodec:
    """The codec of a shipped model (by name) or of a model file (by path); see `image_codec.load`."""
    from jnd_jax import image_codec

    return image_codec.load(name_or_path)
