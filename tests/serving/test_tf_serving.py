"""The tree for TensorFlow Serving and its clients, against a stand-in that speaks its protocols."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import bitstream, modelfile, zoo
from jnd_jax.cli import main
from tests.models import write_tiny_model
from tests.serving import golden

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'jnd-jax[tf]'")
pytest.importorskip("tensorflow_serving", reason="needs its messages: pip install 'jnd-jax[tf]'")
from examples import tf_serving_client  # noqa: E402  these need the packages above
from tests.serving import stand_in  # noqa: E402

PHOTO = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))[:70, :110]


def test_an_upgrade_and_the_way_back_leave_every_file_decodable(tmp_path, capsys):
    """One tree: a model, then a newer one beside it; files of both, by both protocols, whatever new files are made with."""
    tree, newer = tmp_path / "serving", tmp_path / "newer.safetensors"
    write_tiny_model(newer, seed=3, widths=[8, 24])
    codecs = {path: jnd_jax.load(str(path)) for path in (golden.MODEL, newer)}
    files = {path: codec.encode(PHOTO, 60) for path, codec in codecs.items()}

    def check(paths):
        with stand_in.serving(tree) as (url, address):
            for path in paths:
                data, label = files[path], bitstream.unpack(files[path])[0].model
                inputs = tf_serving_client.latents(data, modelfile.load(path))
                for image in (
                    tf_serving_client.rest(url, label, inputs),
                    tf_serving_client.grpc(address, label, inputs),
                ):
                    golden.assert_same_pixels(np.asarray(Image.open(io.BytesIO(image))), codecs[path].decode(data))

    export = lambda path: main(["export", str(path), "-o", str(tree), "--tree", "--plain"])
    assert export(golden.MODEL) == 0
    check([golden.MODEL])
    assert export(newer) == 0  # the canary: new files of it are decoded, and the old ones still are
    check([golden.MODEL, newer])
    assert export(newer) == 2 and "already" in capsys.readouterr().err
    assert sorted(path.name for path in (tree / "jnd").iterdir()) == ["1", "2"]


def test_the_client_refuses_what_the_network_alone_does_not_decode(tiny_model):
    codec, model = jnd_jax.load(golden.MODEL), modelfile.load(golden.MODEL)
    with pytest.raises(jnd_jax.JndError, match="made with model"):
        tf_serving_client.latents(codec.encode(PHOTO, 30), modelfile.load(tiny_model))
    by_region = codec.encode(PHOTO, 30, mask=np.full(PHOTO.shape[:2], 255, np.uint8))
    with pytest.raises(jnd_jax.JndError, match="jnd-jax"):
        tf_serving_client.latents(by_region, model)
