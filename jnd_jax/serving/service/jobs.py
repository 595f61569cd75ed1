"""Jobs of a worker process: image files to .jnd files and back. Pixels and latents are parsed nowhere else."""

from __future__ import annotations

import signal
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from jnd_jax.errors import JndError
from jnd_jax.serving.service.models import Known

if TYPE_CHECKING:
    from jnd_jax.bitstream import Header
    from jnd_jax.image_codec import ImageCodec
    from jnd_jax.images import Picture
    from jnd_jax.preview import Previewer


class TooLarge(JndError):
    """The image has more pixels than the service takes."""


@dataclass(frozen=True)
class Result:
    """The file that a job made, and the pixels of its image."""

    data: bytes
    pixels: int

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Failure:
    """Why a job failed: `kind` is "bad" or "large" for the input, "fault" for the service; `message` is a sentence."""

    kind: str
    message: str


class Codecs:
    """Codecs by model, least recently used first out."""

    def __init__(self, room: int):
        """`room`: codecs that stay loaded."""
        self._room = room
        self._loaded: OrderedDict[str, ImageCodec] = OrderedDict()

    def __getitem__(self, model: Known) -> ImageCodec:
        from jnd_jax import modelfile
        from jnd_jax.image_codec import ImageCodec

        if model.hash not in self._loaded:
            while len(self._loaded) >= self._room:
                self._loaded.popitem(last=False)
            codec = ImageCodec(modelfile.load(model.path))
            if codec.hash != model.hash:
                raise RuntimeError(f"{model.path} has changed: have the service reload its models (SIGHUP).")
            self._loaded[model.hash] = codec
        self._loaded.move_to_end(model.hash)
        return self._loaded[model.hash]


@dataclass(frozen=True)
class Encode:
    """An image file to a .jnd file.

    Attributes:
      data: the image file.
      model: that codes it.
      goal: quality or target, as `ImageCodec.encode` takes them.
      pixels: that the image may have.
    """

    data: bytes = field(repr=False)
    model: Known
    goal: Mapping[str, Any]
    pixels: int

    def __call__(self, codecs: Codecs) -> Result:
        from jnd_jax import images

        def check(width: int, height: int) -> None:
            if width * height > self.pixels:
                what = " with a target" if "target" in self.goal else ""
                raise TooLarge(f"Send an image of at most {self.pixels} pixels{what}: {width}x{height} are more.")
            images.check_size(width, height)

        picture = images.parse_image(self.data, check=check)
        height, width = picture.pixels.shape[:2]
        data = codecs[self.model].encode(picture.pixels, **self.goal, extras=images.to_chunks(picture))
        return Result(data, width * height)


@dataclass(frozen=True)
class Decode:
    """A .jnd file to an image file.

    Attributes:
      data: the .jnd file.
      model: that codes it.
      kind: suffix of the image file.
      options: Pillow's, in place of those of `images.format_image`.
      width: of the image as it is shown, in pixels; None: as wide as the image, which is never made wider.
    """

    data: bytes = field(repr=False)
    model: Known
    kind: str
    options: Mapping[str, Any]
    width: int | None = None

    def __call__(self, codecs: Codecs) -> Result:
        from jnd_jax import bitstream, images
        from jnd_jax.formats import exif

        header, chunks = bitstream.unpack(self.data)
        size = header.width, header.height
        lies = exif.orientation(chunks.get("exif")) in exif.SIDEWAYS  # Shown, its height goes across.
        across = header.height if lies else header.width
        if self.width is not None and self.width < across:
            width, height = (max(1, round(side * self.width / across)) for side in size)
            size = width, height
        picture = self._preview(header, size)
        picture = picture or images.from_chunks(codecs[self.model].decode(self.data), chunks)
        if size != (header.width, header.height):
            picture = images.resized(picture, size)
        elif self.kind != "png":
            picture = images.of_eight_bits(picture)
        return Result(images.format_image(picture, f".{self.kind}", **self.options), header.width * header.height)

    def _preview(self, header: Header, size: tuple[int, int]) -> Picture | None:
        """The smallest preview of at least this size; None where decoding the whole takes no longer."""
        from jnd_jax import preview

        scale = preview.fitting_scale(header.width, header.height, size)
        previewer = _previewer(self.model) if scale > 2 else None
        return previewer and previewer.decode(self.data, scale)


@lru_cache(maxsize=2)
def _previewer(model: Known) -> Previewer | None:
    from jnd_jax import modelfile, preview

    return preview.of_model(modelfile.load(model.path))


@dataclass(frozen=True)
class Warm:
    """Loads a model and compiles its transforms for images of these sizes (width, height)."""

    model: Known
    sizes: tuple[tuple[int, int], ...]

    def __call__(self, codecs: Codecs) -> Result:
        import numpy as np

        codec = codecs[self.model]
        for width, height in self.sizes:
            codec.decode(codec.encode(np.zeros((height, width, 3), np.uint8)))
        return Result(b"", 0)


def serve(connection: Connection, models: int) -> None:
    """Does the jobs received over `connection` until it closes; sends a Result or a Failure for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The service ends its workers itself.
    codecs = Codecs(models)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(_attempt(job, codecs))


def _attempt(job: Any, codecs: Codecs) -> Result | Failure:
    try:
        return job(codecs)
    except TooLarge as error:
        return Failure("large", str(error))
    except JndError as error:
        return Failure("bad", str(error))
    except MemoryError:
        return Failure("large", "This image needs more memory than the service has: send a smaller one.")
    except Exception:
        traceback.print_exc()
        return Failure("fault", "The service failed at this request: its log says how.")
