from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class StubModel:
    """Stands for a loaded learned codec: JPEG 2000 by PSNR under the model interface, counting its
    encodes.
    """

    name = "stub"
    hash = "0123456789abcdef"
    qualities = tuple(tenth / 10 for tenth in range(1001))

    def __init__(self) -> None:
        self.encodes = 0

    def multiply_adds(self) -> dict[str, float]:
        return {"encode": 12.34, "decode": 5.67}

    def encode(self, image: np.ndarray, quality: float = 50.0) -> bytes:
        self.encodes += 1
        file = io.BytesIO()
        Image.fromarray(image).save(
            file,
            "JPEG2000",
            quality_mode="dB",
            quality_layers=[24 + quality * 0.2],
            irreversible=True,
            no_jp2=True,
        )
        return file.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def stub() -> StubModel:
    return StubModel()


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder with three small photographs."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("photos")
    for name, image in (
        ("astronaut", data.astronaut()[:96, 150:270]),
        ("cat", data.chelsea()[60:156, 130:250]),
        ("coffee", data.coffee()[100:196, 200:320]),
    ):
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def call(add_arguments, run, *arguments: object) -> int:
    """Runs a command's functions as `jnd-jax` does."""
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))
