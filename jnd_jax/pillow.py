"""Pillow plugin: `import jnd_jax.pillow` makes `Image.open` read and `Image.save` write .jnd files.

`Image.open` parses header and metadata with the standard library; `load()` imports jax and decodes the pixels.
Options of `Image.save`: quality (0..100), bpp, target, policy and coder as in `ImageCodec.encode`, model (a name or
a file), icc_profile, exif. As with Pillow's AVIF plugin, `info["icc_profile"]` is written by default, EXIF only where
`exif` is given.
"""

from __future__ import annotations

from functools import cache
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from jnd_jax import bitstream, zoo
from jnd_jax.errors import JndError

if TYPE_CHECKING:
    from jnd_jax.image_codec import ImageCodec

FORMAT = "JND"
MIME = "image/x-jnd"
# Where Pillow keeps the contents of chunks.
_INFO = {"icc": "icc_profile", "exif": "exif"}
_GOALS = ("quality", "bpp", "target", "policy", "coder")

_models: dict[str, str] = {}


@cache
def _codec(digest: str) -> ImageCodec:
    import jnd_jax
    from jnd_jax import modelfile

    return jnd_jax.load(_models.get(digest) or str(modelfile.find_by_hash(digest)))


def _accept(prefix: bytes) -> bool | str:
    if not prefix.startswith(bitstream.MAGIC):
        return False
    if prefix[4] > bitstream.VERSION:
        return f"the .jnd file is of a newer format (version {prefix[4]}): update jnd_jax"
    return True


class JndImageFile(ImageFile.ImageFile):
    """An opened .jnd file.

    `Image.open` raises UnidentifiedImageError for a damaged header or chunk table. `verify` and `load` raise OSError
    for damage behind these, and `load` for a file whose model is not installed.
    """

    format = FORMAT
    format_description = "JND image"

    def _open(self) -> None:
        self._data = self.fp.read()
        try:
            header, chunks, names = bitstream.salvage(self._data)
        except JndError as error:
            raise SyntaxError(str(error)) from error
        self._size = header.width, header.height
        self._mode = "RGBA" if "alpha" in names else "RGB"
        self.info = {key: chunks[name] for name, key in _INFO.items() if name in chunks}
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    def verify(self) -> None:
        """Checks every byte against its checksum; decodes nothing."""
        _checked(bitstream.unpack, self._data)
        super().verify()

    def load(self) -> Image.core.PixelAccess | None:
        if self.tile:
            self.im = _checked(_decode, self._data).im
            self.tile = []
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _checked(function, data: bytes) -> Any:
    """`function(data)`, whose JndError becomes the OSError that readers of images expect of Pillow."""
    try:
        return function(data)
    except JndError as error:
        raise OSError(str(error)) from error


def _decode(data: bytes) -> Image.Image:
    from jnd_jax import images

    header, chunks = bitstream.unpack(data)
    return images.to_pillow(images.from_chunks(_codec(header.model).decode(data), chunks))


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    import jnd_jax
    from jnd_jax import images

    options = image.encoderinfo
    if image.mode not in images.PLAIN_MODES:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    exif = options.get("exif")
    image = image.copy()
    image.info["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    image.info["icc_profile"] = options.get("icc_profile", image.info.get("icc_profile"))
    picture = images.from_pillow(image)
    goals = {name: options[name] for name in _GOALS if name in options}
    codec = jnd_jax.load(options.get("model", zoo.DEFAULT))
    file.write(codec.encode(picture.pixels, **goals, extras=images.to_chunks(picture)))


def register_pillow(*models: str) -> None:
    """Registers the plugin with Pillow, as importing this module does.

    Args:
        models: model files of your own, with which to decode the files that they wrote.

    Raises:
        JndError: one of these is no model file.
    """
    if models:
        from jnd_jax import modelfile

        _models.update({modelfile.describe(path)["hash"]: str(path) for path in map(modelfile.find, models)})
    Image.register_open(FORMAT, JndImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".jnd")
    Image.register_mime(FORMAT, MIME)


register_pillow()
