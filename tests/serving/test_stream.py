"""The graph that decodes the bytes of .jnd files with coder tfc."""

from __future__ import annotations

import dataclasses
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import bitstream, residual, zoo
from jnd_jax.cli import main
from jnd_jax.images import encode_lossless
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
def served(exported):
    """Signatures of the exported model, its files read back."""
    # The same latents by two programs: a pixel may be rounded otherwise.
    assert json.loads((exported / "conversion.json").read_text())["differences"]["bytes_to_pixels"]["equal"] > 0.9999
    return tf.saved_model.load(str(exported)).signatures


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
    for position in [*range(40), *range(40, len(data), 3)]:
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
    from jnd_jax.serving.container import crc32

    for size in (0, 1, 3, 4, 5, 1000, 4097):
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        assert int(crc32(tf.constant(data))) == zlib.crc32(data.tobytes())


def test_every_chunk_is_checked_and_given(codec, served):
    """Opacity, profile and metadata come beside the image; a damaged bit of them is noticed, and a byte too many."""
    image, alpha = PHOTO[:40, :40], encode_lossless(np.tri(40, dtype=np.uint8) * 255)
    extras = {"alpha": alpha, "icc": b"profile", "exif": b"II*\0", "xmp": b"<x/>", "note": b"{}"}
    data = codec.encode(image, 30, coder="tfc", extras=extras)
    out = served["decode"](data=tf.constant(data))
    assert {name: out[f"{name}_bytes"].numpy() for name in extras} == extras
    golden.assert_same_pixels(out["image"].numpy(), codec.decode(data))
    for damaged in (data + b"\0", data[:-1], data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="damaged"):
            served["decode"](data=tf.constant(damaged))
    plain = served["decode"](data=tf.constant(codec.encode(image, 30, coder="tfc")))
    assert all(plain[f"{name}_bytes"].numpy() == b"" for name in extras)


def test_a_bad_file_does_not_fail_the_others_of_its_batch(codec, served):
    good = [codec.encode(PHOTO[:64, :64], 20, coder="tfc"), codec.encode(PHOTO[:30, :100], 60, coder="tfc")]
    header, chunks = bitstream.unpack(good[0])
    # Intact as a file, but what is coded is not: found only by decoding.
    forged = bitstream.pack(header, chunks | {"y": chunks["y"] + bytes(range(100))})
    files = [good[0], b"none", good[1][:-1], forged, codec.encode(PHOTO[:20, :20], 50), good[1]]
    out = {name: value.numpy() for name, value in served["decode_batch"](data=tf.constant(files)).items()}
    assert [status == b"" for status in out["status"]] == [True, False, False, False, False, True]
    assert b"not a .jnd file" in out["status"][1] and b"transcode" in out["status"][4]
    for at, file in ((0, good[0]), (5, good[1])):
        height, width = out["heights"][at], out["widths"][at]
        golden.assert_same_pixels(out["images"][at, :height, :width], codec.decode(file))
    assert not out["images"][1:5].any() and not out["heights"][1:3].any()


def test_image_files_are_given_as_bytes(codec, served):
    data = codec.encode(PHOTO[:50, :70], 40, coder="tfc")
    out = served["serving_default"](data=tf.constant([data, b"none"]))
    golden.assert_same_pixels(np.asarray(Image.open(io.BytesIO(out["image_bytes"].numpy()[0]))), codec.decode(data))
    assert out["image_bytes"].numpy()[1] == b"" and b"not a .jnd file" in out["status"].numpy()[1]


def test_images_beyond_the_limit_are_refused(codec, served):
    """The limit is the export's, 0.4 megapixels: of an image, and four times of a batch."""
    header, chunks = bitstream.unpack(codec.encode(PHOTO[:64, :64], 40, coder="tfc"))
    large = bitstream.pack(dataclasses.replace(header, width=640, height=640), chunks)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than the 400000 pixels"):
        served["decode"](data=tf.constant(large))
    allowed = codec.encode(np.zeros((600, 600, 3), np.uint8), 0, coder="tfc")
    assert served["decode_batch"](data=tf.constant([allowed] * 4))["images"].shape[0] == 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="send fewer files"):
        served["decode_batch"](data=tf.constant([allowed] * 5))
    inputs = golden.latents(codec, PHOTO[:64, :64])
    wide = {name: np.tile(inputs[name], (1, 10, 10, 1)) for name in ("symbols", "z")}
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 400000 pixels"):
        served["synthesize"](**inputs | wide)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"quality": [1001]}, "qualities of 0 to 1000"),
        ({"quality": [-1]}, "qualities of 0 to 1000"),
        ({"height": [65]}, "heights of 1 to 16 h"),
        ({"width": [0]}, "widths of 1 to 16 w"),
        ({"quality": [1, 2]}, "for each image of the batch"),
    ],
)
def test_requests_out_of_range_are_refused(codec, served, changes, match):
    inputs = golden.latents(codec, PHOTO[:64, :64])
    with pytest.raises(tf.errors.InvalidArgumentError, match=match):
        served["synthesize"](**inputs | {name: np.array(value, np.int32) for name, value in changes.items()})


def test_warm_up_requests_are_requests_that_the_model_answers(exported, served):
    """What TensorFlow Serving replays when it loads the model, read with its own messages."""
    from tensorflow_serving.apis import prediction_log_pb2

    replayed = []
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        out = served[request.model_spec.signature_name](**{k: tf.constant(v) for k, v in inputs.items()})
        replayed.append(request.model_spec.signature_name)
        assert set(out.get("status", tf.constant([b""])).numpy()) == {b""}
    assert replayed == ["synthesize", "synthesize_image", "decode_image"]
