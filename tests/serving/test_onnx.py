"""ONNX models in onnxruntime against the codec."""

from __future__ import annotations

import json

import numpy as np
import pytest

import jnd_jax
from jnd_jax import bitstream, images, modelfile, zoo
from jnd_jax.cli import main
from jnd_jax.codec import coding, regions
from jnd_jax.serving import export as exporting

onnx = pytest.importorskip("jnd_jax.serving.onnx_models", reason="needs pip install 'jnd-jax[onnx]'")


@pytest.fixture(scope="module")
def runner(golden_model):
    graphs = onnx.graphs(modelfile.load(golden_model))
    return onnx.Runner({name: graph.SerializeToString() for name, graph in graphs.items()})


def test_the_export_is_checked_and_described(tmp_path, golden_model):
    out = tmp_path / "out"
    assert main(["export", str(golden_model), "-o", str(out), "--format", "onnx"]) == 0
    report = json.loads((out / "conversion.json").read_text())
    assert report["opset"] == 17
    assert report["differences"]["scale_indexes_wrong"] == 0 and report["differences"]["scale_indexes"] > 10_000
    assert report["differences"]["pixels"]["largest_difference"] <= 1
    assert {path.stem for path in out.glob("*.onnx")} == set(report["files"])
    assert report["files"]["synthesize"]["inputs"]["y"][1][:3] == ["B", "h", "w"]


@pytest.mark.parametrize("size", [(64, 64), (77, 131), (300, 200)])
@pytest.mark.parametrize("region", [False, True])
def test_files_of_any_size_decode_as_by_the_codec(runner, golden_model, size, region):
    photo = images.read_image(zoo.FOLDER / "chelsea.png").pixels[: size[0], : size[1]]
    codec, model = jnd_jax.load(str(golden_model)), modelfile.load(golden_model)
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[:40, :50] = 255
    data = codec.encode(photo, 30, **({"mask": mask, "region_quality": 80} if region else {}))
    header, chunks = bitstream.unpack(data)
    coder, latents = coding.latent_coder(model.params, model.tables), codec.decode_latents(header, chunks)
    h, w = latents.symbols.shape[:2]
    z = coder.decode_z(chunks["z"], h // 4, w // 4, header.quality)[None].astype(np.int32)
    quality = np.asarray(regions.of_file(header, chunks), np.int32)
    quality = quality[None] if region else quality.reshape(1, 1, 1)
    parts = exporting.of_passes(coder, latents.symbols[None].astype(np.float32))
    got = runner.latents(z, quality, lambda number, _: parts[number])
    assert np.array_equal(got.indexes[0], latents.indexes)
    pixels = runner.images(got.y_hat, quality, header.height, header.width)[0]
    report = exporting.compare_pixels(pixels, codec.decode(data))
    assert report["largest_difference"] <= 1 and report["equal"] > 0.999
