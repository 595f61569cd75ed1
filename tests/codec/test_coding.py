from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from jnd_jax import bitstream, codec, modelfile, zoo
from jnd_jax.codec import coding, distortion, hyper, wavefront
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.entropy import symbols
from jnd_jax.errors import JndError
from tests import memory


@pytest.fixture(scope="module")
def coder(golden_model):
    model = modelfile.load(golden_model)
    return coding.latent_coder(model.params, model.tables)


def latents_of(model, height=128, width=192):
    """Gained latents (height/16, width/16, M) of a photo at quality 600."""
    x = data.astronaut()[None, :height, 100 : 100 + width].astype(np.float32) / 255
    return np.asarray(
        codec.build(model.config).apply({"params": model.params}, x, jnp.full(1, 600.0), method="analysis")
    )[0]


@pytest.fixture(scope="module")
def latents(golden_model):
    return latents_of(modelfile.load(golden_model))


def test_y_round_trip_gives_what_the_encoder_coded(coder, latents):
    z = coder.hyper_latents(latents)
    decoded = coder.decode_y(coder.encode_y(latents, z, 600), z, 600)
    # Rate-distortion optimised quantisation moves a symbol by at most one step.
    assert np.abs(decoded.y_hat - latents).max() <= 1.5 + 1e-4
    assert np.mean(np.abs(decoded.y_hat - latents) <= 0.5 + 1e-4) > 0.5
    assert decoded.indexes.max() < hyper.SCALE_LEVELS


def test_z_round_trip(coder):
    z = np.random.default_rng(0).integers(-127, 128, (3, 5, 4)).astype(np.float32)
    assert np.array_equal(coder.decode_z(coder.encode_z(z, 1000), 3, 5, 1000), z)


def test_latents_beyond_the_tables_escape(coder, latents):
    extreme = latents.copy()
    extreme[1, 2], extreme[3, 3], extreme[-1, -1] = 30_000.0, -30_000.0, 1e9
    z = coder.hyper_latents(latents)
    decoded = coder.decode_y(coder.encode_y(extreme, z, 600), z, 600)
    near = np.abs(extreme) < 1e6
    assert np.abs(decoded.y_hat - extreme)[near].max() <= 1.5 + 1e-2
    assert np.abs(decoded.symbols).max() == 2**15 - 1


@pytest.mark.parametrize("by_region", [False, True])
def test_strips_of_rows_give_the_bytes_and_latents_of_the_whole(coder, golden_model, monkeypatch, by_region):
    latents = latents_of(modelfile.load(golden_model), height=512, width=64)
    z, shape = coder.hyper_latents(latents), latents.shape[:2]
    quality = np.random.default_rng(0).integers(300, 900, shape) if by_region else 600
    whole = coder.encode_y(latents, z, quality)
    expected = coder.decode_y(whole, z, quality)
    monkeypatch.setattr(wavefront, "STRIP_BLOCKS", 1)
    monkeypatch.setattr(symbols, "_PART", 100)
    assert len(list(coder.decode_strips(whole, z, quality))) > 2
    parts = (latents[:5], latents[5:23], latents[23:])
    z_of_strips, coded = coder.encode_strips(parts, *shape, quality)
    assert np.array_equal(z_of_strips, z) and coded == whole
    decoded = coder.decode_y(whole, z, quality)
    assert np.array_equal(decoded.symbols, expected.symbols) and np.array_equal(decoded.indexes, expected.indexes)
    np.testing.assert_allclose(decoded.y_hat, expected.y_hat, atol=1e-4)


@pytest.mark.skipif(not zoo.models(), reason="no model is shipped")
def test_a_wide_image_takes_no_more_memory_than_its_latents_need():
    model, size = modelfile.load(modelfile.find(zoo.DEFAULT)), (12, 2048)
    shipped = coding.latent_coder(model.params, model.tables)
    spread = 8 * np.exp(-np.arange(448) / 100)
    latents = (spread * np.random.default_rng(0).standard_normal((*size, 448))).astype(np.float32)
    shipped.encode_strips([latents[:8, :64]], 8, 64, 500)
    with memory.growth() as growth:
        shipped.encode_strips([latents], *size, 500)
    # Of 24,576 blocks: 5.7 kB each for latents and what passes see of them, 1.3 kB for symbols; the rest is work.
    assert growth.mebibytes < 225


def test_means_of_anchors_follow_the_deviations_above_them():
    rng = np.random.default_rng(0)
    mean, y = (10 * rng.standard_normal((3, 4, 2, 5)) for _ in range(2))
    above, start = rng.uniform(0, 0.5, (2, 5)), np.zeros((4, 5))
    code = lambda mean, y: np.round(y - mean)
    symbols, means, _ = hyper.code_from_above(np, above, code, start, mean, y)
    # On the grid of blocks: anchors have an even sum of row and column, and a border around them.
    deviation = np.zeros((8, 10, 5))
    for row in range(6):
        for column in range(row % 2, 8, 2):
            cell = row // 2, column // 2, row % 2
            shift = above[0] * deviation[row, column] + above[1] * deviation[row, column + 2]
            deviation[row + 1, column + 1] = np.round(y[cell] - mean[cell] - shift) + shift
            np.testing.assert_allclose(means[cell], mean[cell] + shift, atol=1e-9)
            np.testing.assert_allclose(symbols[cell], np.round(y[cell] - means[cell]))
    _, expected, last = hyper.code_from_above(np, above, code, start, mean, y)
    _, upper, carried = hyper.code_from_above(np, above, code, start, mean[:1], y[:1])
    _, lower, end = hyper.code_from_above(np, above, code, carried, mean[1:], y[1:])
    np.testing.assert_array_equal(np.concatenate([upper, lower]), expected)
    np.testing.assert_array_equal(end, last)


def test_an_error_of_floats_does_not_grow_from_row_to_row(golden_model):
    model = modelfile.load(golden_model)
    strong = coding.latent_coder(model.params | {"mean_0_above": np.full((2, 8), 3.0)}, model.tables)
    symbols, z = np.zeros((400, 8, 32), np.float32), np.zeros((100, 2, 4), np.float32)
    y_hat = hyper.gained_latents(np, strong.mean, z, symbols)
    symbols[0, :, :8] = 1
    assert np.abs(hyper.gained_latents(np, strong.mean, z, symbols) - y_hat).max() < 10


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_coding_and_training_agree_on_symbols_and_scales(golden_model, shipped, share, monkeypatch):
    if not shipped:  # Symbols beyond the tables, of which this model has many, are optimised in training only.
        monkeypatch.setattr(hyper, "RDO_DISTORTION_FACTOR", 1e9)
    model = modelfile.load(modelfile.find(zoo.DEFAULT) if shipped else golden_model)
    network = codec.build(model.config | {"masked_share": share})
    params = jax.tree.map(jnp.asarray, model.params)
    latents = latents_of(model)
    # The file's integers come from float32 parameters, of which it keeps float16 only.
    coder = coding.latent_coder(model.params, coding_tables(network, model.params))
    z = coder.hyper_latents(latents)
    activity = np.random.default_rng(0).uniform(0, 5, (8, 12, 4)).astype(np.float32)
    halves, masked = hyper.halves(np, activity), distortion.masked_energy(np, coder.synthesis)
    energy = lambda rows, channels, half: distortion.energy(
        np, share, coder.synthesis_energy[channels], masked[:, channels], halves[half][rows]
    )
    ours = coder.decode_y(coder.encode_y(latents, z, 600, energy=energy), z, 600)

    def in_training(y: np.ndarray) -> hyper.Coded:
        code = lambda y: network.apply(
            {"params": params}, y[None], z[None], jnp.full(1, 600.0), activity[None], method="code"
        )
        return jax.tree.map(lambda a: np.asarray(a[0]), jax.jit(code)(y))

    # A decision on an edge may fall either way in two runtimes, and everything after it then follows.
    assert np.mean(in_training(latents).symbols != ours.symbols) < 1e-3
    # So scales and means are compared on the latents of the file, which plain rounding gives back.
    monkeypatch.setattr(hyper, "RDO_DISTORTION_FACTOR", 1e9)
    again = in_training(ours.y_hat)
    assert np.mean(again.symbols != ours.symbols) < 1e-3
    assert np.mean(again.indexes != ours.indexes) < 1e-3
    assert np.mean(np.abs(again.y_hat - ours.y_hat) > 1e-3) < 1e-3
    assert np.mean(ours.symbols != 0) > 0.05


def test_optimised_quantisation_lowers_rate_plus_distortion(coder, latents, monkeypatch):
    z = coder.hyper_latents(latents)
    log_inverse_gain = coder.log_inverse_gain[4] + 0.8 * (coder.log_inverse_gain[5] - coder.log_inverse_gain[4])
    weight = hyper.distortion_weight(np, 600, log_inverse_gain, coder.synthesis_energy) / hyper.RDO_DISTORTION_FACTOR

    def cost():
        data = coder.encode_y(latents, z, 600)
        error = coder.decode_y(data, z, 600).y_hat - latents
        return 8 * len(data) + np.sum(weight * error**2), len(data)

    optimised = cost()
    monkeypatch.setattr(hyper, "RDO_DISTORTION_FACTOR", 1e9)
    plain = cost()
    assert optimised[1] < plain[1] and optimised[0] < plain[0]


def test_too_few_bytes_for_the_declared_size_are_refused(coder):
    header = bitstream.Header("0" * 16, 16384, 16384, 500)
    with pytest.raises(JndError, match="too short"):
        coding.z_of_file(coder, header, {"z": bytes(12), "y": bytes(1000)})


def test_hyper_latents_at_their_place_take_fewer_bytes_than_anywhere_else():
    model = modelfile.load(modelfile.find(zoo.DEFAULT))
    coder = coding.latent_coder(model.params, model.tables)
    z = coder.hyper_latents(latents_of(model, 512, 384))
    shuffled = np.random.default_rng(0).permutation(z.reshape(-1, z.shape[-1])).reshape(z.shape)
    assert len(coder.encode_z(z, 600)) < 0.9 * len(coder.encode_z(shuffled, 600))
