"""The synthesis network trained alone."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

import jnd_jax
from configs import jnd_perceptual
from jnd_jax import bitstream, codec, images, losses, modelfile, zoo
from jnd_jax.errors import JndError
from jnd_jax.training import synthesis


def test_mixed_latents_are_louder_or_come_from_elsewhere():
    latents = np.random.default_rng(0).laplace(size=(3, 4, 4, 8)).astype(np.float32)
    mixed = synthesis.mix(latents, np.random.default_rng(1))
    assert mixed.shape == latents.shape and mixed.dtype == np.float32
    ratio = mixed / latents
    alone = np.isclose(ratio, ratio[..., :1], rtol=1e-3).all(-1)
    assert 0.2 < alone.mean() < 0.8
    assert (ratio[alone] > 0.69).all() and (ratio[alone] < 1.51).all()


def test_its_loss_is_that_of_the_default_model():
    assert synthesis._DISTANCE == jnd_perceptual.get_config().loss.distance.to_dict()


def test_a_kind_without_crops_is_said_in_one_sentence():
    given = modelfile.load(modelfile.find("jnd-perceptual"))
    loss = losses.make_loss(losses.settings("rate_distortion"))
    with pytest.raises(JndError, match="No crop is drawn or broken; give --batches more."):
        synthesis.code(codec.build(given.config), jax.device_put(given.params), loss, [""], 1, 1 / 6, 0)


@pytest.mark.slow
def test_only_the_network_of_the_synthesis_changes(monkeypatch, tmp_path):
    target = tmp_path / "new.safetensors"
    words = ["synthesis", "jnd-perceptual", "-o", str(target), "--batches", "13", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", words)
    synthesis.main()
    old, new = (modelfile.load(path) for path in (modelfile.find("jnd-perceptual"), target))
    weights = [dict(jax.tree_util.tree_leaves_with_path(file.params)) for file in (old, new)]
    changed = {path[0].key for path, weight in weights[0].items() if not np.array_equal(weight, weights[1][path])}
    assert weights[0].keys() == weights[1].keys() and changed == {"synthesis_net"}
    assert all(np.array_equal(table, new.tables[name]) for name, table in old.tables.items())
    codecs = jnd_jax.load("jnd-perceptual"), jnd_jax.load(target)
    photo = np.asarray(images.read_rgb(zoo.FOLDER / "chelsea.png"))[:128, :192]
    before = codecs[0].encode(photo, 50)
    header, chunks = bitstream.unpack(before)
    after = bitstream.pack(dataclasses.replace(header, model=codecs[1].hash), chunks)
    assert len(before) == len(after) and codecs[0].hash != codecs[1].hash
    assert sum(a != b for a, b in zip(before, after)) <= 16  # the model's hash, and the checksum over it
    difference = np.abs(codecs[0].decode(before).astype(int) - codecs[1].decode(after))
    assert 0 < difference.max() < 16
