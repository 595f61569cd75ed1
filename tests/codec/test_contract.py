"""Swapped parts code real files: the examples of docs/own-parts.md, and the reference codecs with CompressAI's weights."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import jnd_jax
from jnd_jax import bitstream, codec, codecs, modelfile
from jnd_jax.codec.hyperprior import from_compressai
from jnd_jax.errors import JndError
from jnd_jax.training import loop, packaging
from tests.codec.test_hyperprior import NAMES, _golden
from tests.models import CONFIG
from tests.training.tiny import tiny_config, write_photos

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def own_modules(tmp_path_factory):
    """The examples of the page, as modules that can be imported."""
    folder = tmp_path_factory.mktemp("own")
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/own-parts.md").read_text(), re.S):
        lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
        assert len(lines) <= 33
        (folder / code.split("\n")[0].removeprefix("# ")).write_text(code)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def photo(photos):
    return np.round(255 * np.concatenate([photos[0], photos[1]], 1)).astype(np.uint8)


def estimated_bits(path, image, quality):
    file = modelfile.load(path)
    x, q = image[None].astype(np.float32) / 255, jnp.full(1, 10.0 * quality)
    out = jax.jit(codec.build(file.config).apply)({"params": file.params}, x, q, None)
    return float(out.bits_y[0] + out.bits_z[0])


def check_file(path, image, quality=30.0):
    """Encodes, decodes with a codec loaded anew, and compares the size with the estimate."""
    data = jnd_jax.load(path).encode(image, quality=quality)
    decoded = jnd_jax.load(path).decode(data)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    _, chunks = bitstream.unpack(data)
    bits = 8 * sum(len(chunks[name]) for name in ("z", "y"))
    # The models are hardly trained: what their scales do not cover is escaped, for more than the estimate's bound.
    assert bits == pytest.approx(estimated_bits(path, image, quality), rel=0.15, abs=600)
    return data, decoded


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize(
    "model,loss",
    [
        (CONFIG | {"name": "own_analysis:WideAnalysis", "width": 8}, dict(name="rate_distortion")),
        ({"name": "own_codec:Patches", "latents": 48}, dict(name="own_loss:power_error", power=1.2)),
        ({"name": "own_codec:Patches", "latents": 48}, dict(name="rate_distortion", distance="own_loss:luma_error")),
    ],
)
def test_a_swapped_part_trains_and_codes(tmp_path, photo, model, loss):
    write_photos(tmp_path / "photos")
    config = tiny_config(tmp_path, optimizer="adam", steps=3)
    config.data.batch = 2
    config.model, config.loss = ConfigDict(model), ConfigDict(loss)
    loop.train_and_evaluate(config, tmp_path / "run")
    file = tmp_path / "run/model.safetensors"
    assert modelfile.load(file).config["name"] == model["name"]
    check_file(file, photo)


@pytest.mark.parametrize("name", NAMES)
def test_compressai_s_weights_code_files(tmp_path, name):
    golden, state = _golden(name)
    config, params = from_compressai(state, name)
    packaging.export_model(params, tmp_path / "weights.safetensors", codec.build(config))
    image = np.asarray(golden["image"][0], np.uint8)
    data, decoded = check_file(tmp_path / "weights.safetensors", image, 50.0)
    np.testing.assert_allclose(decoded, np.clip(np.round(255 * golden["x_hat"][0]), 0, 255), atol=1)
    model = codecs.of_model(jnd_jax.load(tmp_path / "weights.safetensors"))
    assert model.qualities == model.grid == (50.0,) and model.encode(image, 50.0) == data
    with pytest.raises(JndError, match="one rate"):
        jnd_jax.load(tmp_path / "weights.safetensors").encode(image, quality=70)
    with pytest.raises(JndError, match="quality by region"):
        jnd_jax.load(tmp_path / "weights.safetensors").encode(image, mask=np.zeros(image.shape[:2], np.uint8))


def test_models_of_one_rate_join_to_one_codec(tmp_path, tiny_model, photo):
    paths = [tmp_path / f"{name}.safetensors" for name in NAMES]
    for name, path in zip(NAMES, paths):
        config, params = from_compressai(_golden(name)[1], name)
        packaging.export_model(params, path, codec.build(config))
    both = codecs.lookup(f"both={paths[0]},{paths[1]}")
    assert both.name == "both" and both.grid == both.qualities == (1.0, 2.0)
    files = [both.encode(photo, quality) for quality in both.grid]
    for path, file in zip(paths, files):
        alone = jnd_jax.load(path)
        assert file == alone.encode(photo)
        np.testing.assert_array_equal(both.decode(file), alone.decode(file))
    assert both.digest not in {codecs.lookup(str(path)).digest for path in paths}
    for models, sentence in ((f"{paths[0]},{tiny_model}", "many rates"), (f"{paths[0]},{paths[0]}", "twice")):
        with pytest.raises(JndError, match=sentence):
            codecs.lookup(f"both={models}")


def test_a_file_of_floating_point_scales_is_refused_where_they_come_out_otherwise(tmp_path):
    golden, state = _golden(NAMES[0])
    config, params = from_compressai(state, NAMES[0])
    packaging.export_model(params, tmp_path / "weights.safetensors", codec.build(config))
    here = jnd_jax.load(tmp_path / "weights.safetensors")
    header, chunks = bitstream.unpack(here.encode(np.asarray(golden["image"][0], np.uint8)))
    changed = bytes([chunks["y"][0] ^ 1]) + chunks["y"][1:]
    with pytest.raises(JndError, match="same machine"):
        here.decode(bitstream.pack(header, chunks | {"y": changed}))
