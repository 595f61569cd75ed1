"""The graph that decodes the bytes of .jnd files with coder tfc."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import bitstream, residual, zoo
from jnd_jax.cli import main
from tests.serving import golden

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'jnd-jax[tfc]'")
pytest.importorskip(
    "tensorflow_compression_ops", reason="needs its own environment: pip install 'jnd-jax[tfc]'", exc_type=ImportError
)

PHOTO = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))


@pytest.fixture(scope="module")
def codec():
    return jnd_jax.load(golden.MODEL)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Signatures of the exported model, its files read back."""
    folder = tmp_path_factory.mktemp("export") / "out"
    assert main(["export", str(golden.MODEL), "-o", str(folder)]) == 0
    assert json.loads((folder / "conversion.json").read_text())["differences"]["bytes_to_pixels"]["equal"] == 1
    return tf.saved_model.load(str(folder)).signatures


@pytest.mark.parametrize("quality", [0, 33.3, 66.6, 100])
def test_bytes_decode_to_the_codecs_pixels(codec, served, quality):
    image = PHOTO[:130, :200]
    data = codec.encode(image, quality, coder="tfc")
    golden.assert_same_pixels(served["decode"](data=tf.constant(data))["image"].numpy(), codec.decode(data))


def test_escaped_symbols_decode(codec, served):
    noise = np.where(np.random.default_rng(0).random((64, 128, 1)) < 0.5, 0, 255).astype(np.uint8).repeat(3, axis=2)
    data = codec.encode(noise, 100, coder="tfc")
    header, chunks = bitstream.unpack(data)
    latents = codec.decode_latents(header, chunks)
    assert np.any(np.abs(latents.symbols) > codec._latents.y_half_width[latents.indexes])
    golden.assert_same_pixels(served["decode"](data=tf.constant(data))["image"].numpy(), codec.decode(data))


def test_a_batch_of_several_sizes(codec, served):
    images = [PHOTO[:64, :64], PHOTO[:100, :30], PHOTO[50:51, :120]]
    files = [codec.encode(image, quality, coder="tfc") for image, quality in zip(images, (20, 60, 90))]
    out = {name: value.numpy() for name, value in served["decode_batch"](data=tf.constant(files)).items()}
    assert out["images"].shape == (3, 100, 120, 3)
    for file, image, height, width in zip(files, out["images"], out["heights"], out["widths"]):
        golden.assert_same_pixels(image[:height, :width], codec.decode(file))
        assert not image[height:].any() and not image[:, width:].any()


def test_every_damaged_byte_is_noticed(codec, served):
    data = codec.encode(PHOTO[:33, :40], 30, coder="tfc")
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(tf.errors.InvalidArgumentError, match="damaged|not a .jnd file"):
            served["decode"](data=tf.constant(bytes(damaged)))
    for size in (0, 20, 50, len(data) - 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match="damaged|not a .jnd file"):
            served["decode"](data=tf.constant(data[:size]))


def test_what_it_does_not_decode_it_names(codec, served, tiny_model):
    image = PHOTO[:64, :64]
    with pytest.raises(tf.errors.InvalidArgumentError, match="jnd-jax transcode"):
        served["decode"](data=tf.constant(codec.encode(image, 30)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="another model"):
        served["decode"](data=tf.constant(jnd_jax.load(tiny_model).encode(image, 30, coder="tfc")))
    header, chunks = bitstream.unpack(codec.encode(image, 30, coder="tfc"))
    huge = bitstream.pack(bitstream.Header(header.model, 16384, 16384, header.quality, "tfc", header.passes), chunks)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too short for the declared image size"):
        served["decode"](data=tf.constant(huge))
    with pytest.raises(tf.errors.InvalidArgumentError, match="quality by region"):
        regions = codec.encode(image, 30, mask=np.tri(64, dtype=np.uint8) * 255, coder="tfc")
        served["decode"](data=tf.constant(regions))
    bounded = bitstream.pack(header, chunks | {"residual": residual.pack(image, image, 2)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="bound on its errors"):
        served["decode"](data=tf.constant(bounded))


def test_transcoding_loses_nothing(codec, tmp_path):
    image = PHOTO[:90, :130]
    original = codec.encode(image, 75, extras={"exif": b"II*\0" + bytes(8)})
    paths = [tmp_path / name for name in ("a.jnd", "b.jnd", "c.jnd")]
    paths[0].write_bytes(original)
    for source, target, coder in ((paths[0], paths[1], "tfc"), (paths[1], paths[2], "constriction")):
        assert main(["transcode", str(source), "-o", str(target), "--coder", coder, "--model", str(golden.MODEL)]) == 0
    assert paths[1].read_bytes() == codec.encode(image, 75, extras={"exif": b"II*\0" + bytes(8)}, coder="tfc")
    assert paths[2].read_bytes() == original


def test_crc32_is_zlibs():
    from jnd_jax.serving.stream import crc32

    for size in (0, 1, 3, 4, 5, 1000, 4097):
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        assert int(crc32(tf.constant(data))) == zlib.crc32(data.tobytes())
