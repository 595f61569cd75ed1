"""Pillow plugin: `import jnd_jax.pillow` makes `Image.open` read and `Image.save` write .jnd files.

`Image.open` parses header and metadata with the standard library; `load()` imports jax and decodes the pixels.
Options of `Image.save`: quality (0..100), bpp, target, policy and coder as in `ImageCodec.encode`, model (a name or
a file), icc_profile, exif, dpi. As with Pillow's AVIF plugin, `info["icc_profile"]` is written by default, EXIF only where
`exif` is given; `info["dpi"]` is written too.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import IO, Any

from PIL import Image, ImageFile

from jnd_jax import bitstream, zoo
from jnd_jax.errors import JndError

FORMAT = "JND"
MIME = "image/vnd.jnd"
# Where Pillow keeps the contents of chunks.
_INFO = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
_GOALS = ("quality", "bpp", "target", "policy", "coder", "effort")

_models: dict[str, str] = {}


@cache
def _model(digest: str) -> str:
    from jnd_jax import modelfile

    return _models.get(digest) or str(modelfile.find_by_hash(digest))


def _accept(prefix: bytes) -> bool | str:
    if not prefix.startswith(bitstream.MAGIC):
        return False
    if prefix[4] > bitstream.VERSION:
        return (
            f"the .jnd file is of a newer format (version {prefix[4]}): update jnd_jax, or get a fresh copy if the file "
            "is damaged"
        )
    return True


class JndImageFile(ImageFile.ImageFile):
    """An opened .jnd file.

    `Image.open` raises UnidentifiedImageError for a damaged head. `verify` and `load` raise OSError for damage
    behind it, and `load` for a file whose model is not installed. With Pillow's
    `ImageFile.LOAD_TRUNCATED_IMAGES`, `load` decodes what there is of a file that ends too soon, as for JPEG and PNG.
    """

    format = FORMAT
    format_description = "JND image"

    def _open(self) -> None:
        assert self.fp is not None  # Pillow opened it
        self._data = self.fp.read()
        try:
            header, chunks, names = bitstream.salvage(self._data)
        except JndError as error:
            raise SyntaxError(str(error)) from error
        self._size = self._full = header.width, header.height
        self._scale = 1
        self._mode = ("L" if header.grey else "RGB") + ("A" if "alpha" in names else "")
        if header.bit_depth > 8 and self._mode == "L":
            self._mode = "I;16"
        self.info = {key: chunks[name] for name, key in _INFO.items() if name in chunks}
        if len(density := chunks.get("density", b"")) == 8:
            self.info["dpi"] = tuple(dots * 0.0254 for dots in struct.unpack("<II", density))
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    def verify(self) -> None:
        """Checks every byte against its checksum; decodes nothing."""
        _checked(bitstream.unpack, self._data)
        super().verify()

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[float, float, float, float]] | None:
        """Sets `load` up for the smallest preview that has at least this size, as Pillow's JPEG does; None once loaded.

        Args:
            mode: not used: there is no faster mode.
            size: (width, height) wanted.
        """
        if not self.tile:
            return None
        from jnd_jax import preview

        width, height = self._full
        self._scale = preview.fitting_scale(width, height, size) if size else 1
        self._size = -(-width // self._scale), -(-height // self._scale)
        if self._scale > 1 and self._mode == "I;16":
            self._mode = "L"
        return self.mode, (0, 0, width / self._scale, height / self._scale)

    def load(self) -> Image.core.PixelAccess | None:
        if self.tile:
            self.im = _checked(lambda data: _decode(data, self._scale, self.mode), self._data).im
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


def _decode(data: bytes, scale: int, mode: str) -> Image.Image:
    from jnd_jax import images

    try:
        header, chunks = bitstream.unpack(data)
    except JndError:
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            return _decode_arrived(data, scale, mode)
        raise
    if scale > 1:
        from jnd_jax import preview

        return images.to_pillow(preview.load(_model(header.model)).decode(data, scale))
    import jnd_jax

    return images.to_pillow(images.from_chunks(jnd_jax.load(_model(header.model)).decode(data), chunks))


def _decode_arrived(data: bytes, scale: int, mode: str) -> Image.Image:
    """As much of a truncated file as there is, see `ImageCodec.decode_partial`; opaque where the opacity is missing."""
    import jnd_jax
    from jnd_jax import images

    header, chunks, _ = bitstream.arrived(data)
    pixels, _ = jnd_jax.load(_model(header.model)).decode_partial(data)
    picture = images.from_chunks(pixels, chunks)
    if scale == 1:
        return images.to_pillow(picture).convert(mode)
    return images.to_pillow(images.of_eight_bits(picture)).reduce(scale).convert(mode)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    import jnd_jax
    from jnd_jax import images

    options = image.encoderinfo
    if image.mode not in images.PLAIN_MODES:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    exif = options.get("exif")
    image = image.copy()
    image.info["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    image.info |= {key: options[key] for key in ("icc_profile", "dpi") if key in options}
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
