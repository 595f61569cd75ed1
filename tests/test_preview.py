"""Previews against the means of whole decoded images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import jnd_jax
from jnd_jax import images, modelfile, preview, zoo
from jnd_jax.errors import JndError


@pytest.fixture(scope="module")
def photo():
    return images.read_image(zoo.FOLDER / "chelsea.png").pixels[40:210, 60:290]


@pytest.fixture(scope="module")
def linear_model(golden_model, tmp_path_factory):
    """The golden model without its residual synthesis network, which previews leave out."""
    model = modelfile.load(golden_model)
    net = model.params["synthesis_net"]
    last = f"Conv_{max(int(name[5:]) for name in net if name.startswith('Conv_'))}"
    net[last] = {name: np.zeros_like(value) for name, value in net[last].items()}
    path = tmp_path_factory.mktemp("models") / "linear-1.safetensors"
    modelfile.save(path, name="linear-1", config=model.config, params=model.params, tables=model.tables, card={})
    return str(path)


@pytest.mark.parametrize("scale", preview.SCALES)
@pytest.mark.parametrize("region", [False, True])
def test_a_preview_is_the_mean_of_the_linear_synthesis(photo, linear_model, scale, region):
    codec = jnd_jax.load(linear_model)
    # Far from 0 and 255, where clipping before or after the mean would differ.
    photo = photo // 2 + 64
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[:80, :100] = 255
    data = codec.encode(photo, 40, **({"mask": mask, "region_quality": 90} if region else {}))
    small = preview.load(linear_model).decode(data, scale).pixels
    height, width = (-(-side // scale) for side in photo.shape[:2])
    assert small.shape == (height, width, 3) and small.dtype == np.uint8
    rows, columns = (side // scale for side in photo.shape[:2])
    whole = codec.decode(data)[: rows * scale, : columns * scale].astype(float)
    means = whole.reshape(rows, scale, columns, scale, 3).mean((1, 3))
    error = np.abs(small[:rows, :columns] - means)
    # At 1/2 all channels count; otherwise those are left out that hold little of what is shown.
    assert error.max() < 1.01 if scale == 2 else error.mean() < 2


def test_previews_of_the_shipped_model_look_like_its_images(photo):
    codec = jnd_jax.load()
    data = codec.encode(photo, 50)
    small = preview.load(zoo.DEFAULT).decode(data, 8).pixels
    whole = codec.decode(data)[:168, :224].astype(float).reshape(21, 8, 28, 8, 3).mean((1, 3))
    assert 10 * np.log10(255**2 / np.mean((small[:21, :28] - whole) ** 2)) > 40


def test_a_preview_needs_no_jax(tmp_path, photo, golden_model):
    path = tmp_path / "photo.jnd"
    path.write_bytes(jnd_jax.load(str(golden_model)).encode(photo, 50))
    code = (
        "import sys; from pathlib import Path; from jnd_jax import preview\n"
        f"assert preview.load({str(golden_model)!r}).decode(Path({str(path)!r}).read_bytes(), 16).pixels.shape == (11, 15, 3)\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_preview_of_deep_samples_is_as_bright_as_the_image(photo, golden_model):
    deep = photo.astype(np.uint16) * 100  # Its largest sample has 15 bits.
    data = jnd_jax.load(str(golden_model)).encode(deep, 60)
    whole = images.eight_bits(jnd_jax.load(str(golden_model)).decode(data))
    small = preview.load(str(golden_model)).decode(data, 4).pixels
    assert abs(small.mean() - whole.mean()) < 4


def test_models_with_transforms_of_their_own_have_none(tmp_path, golden_model):
    model = modelfile.load(golden_model)
    config = {**model.config, "name": "tests.test_preview:Own"}
    path = tmp_path / "own.safetensors"
    modelfile.save(path, name="own", config=config, params=model.params, tables=model.tables, card={})
    assert preview.of_model(modelfile.load(path)) is None
    with pytest.raises(JndError, match="decode the whole file"):
        preview.load(str(path))


def test_other_scales_models_and_damage_are_refused(photo, golden_model, tiny_model):
    data = jnd_jax.load(str(golden_model)).encode(photo, 50)
    previewer = preview.load(str(golden_model))
    with pytest.raises(JndError, match="scale of 16, 8, 4, 2"):
        previewer.decode(data, 3)
    with pytest.raises(JndError, match="damaged"):
        previewer.decode(data[:-1] + bytes([data[-1] ^ 1]), 16)
    with pytest.raises(JndError, match="made with model"):
        preview.load(str(tiny_model)).decode(data, 16)


def test_opacity_and_metadata_come_along(photo, golden_model):
    alpha = np.repeat(np.arange(170, dtype=np.uint8)[:, None], 230, 1)
    extras = images.to_chunks(images.Picture(photo, alpha, b"profile", b"II*\0"))
    picture = preview.load(str(golden_model)).decode(jnd_jax.load(str(golden_model)).encode(photo, extras=extras), 16)
    assert (picture.icc, picture.exif) == (b"profile", b"II*\0")
    assert picture.alpha.shape == (11, 15)
    assert np.allclose(picture.alpha[:10, 0], 7.5 + 16 * np.arange(10), atol=0.51)


def test_the_largest_scale_that_suffices():
    assert [preview.fitting_scale(768, 512, (side, side)) for side in (32, 33, 64, 128, 200, 256, 257)] == [
        16, 8, 8, 4, 2, 2, 1
    ]  # fmt: skip
