from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax import codec
from jnd_jax.codec.types import Forward
from jnd_jax.losses.distances import make_distance
from jnd_jax.perception.cvvdp import difference_picture
from jnd_jax.training.validate import make_evaluator


class Darker(nn.Module):
    """Ten levels darker, for a bit and a half per pixel."""

    @nn.compact
    def __call__(self, x, quality, keys=None):
        bits = jnp.full(len(x), 1.5 * x.shape[1] * x.shape[2])
        return Forward(x - 10 / 255, bits, 0 * bits)


@pytest.mark.parametrize("distance", ["mse", {"masked-dct": 0.95, "mse": 0.05}])
def test_the_score_is_rate_and_the_loss_s_own_distance(distance):
    image = np.random.default_rng(0).integers(20, 256, (64, 128, 3), dtype=np.uint8)
    measure = make_distance(distance)
    evaluate = make_evaluator(Darker(), [{"image": image}], (200, 800), lambda batch, y: measure(batch["image"], y))
    result, pictures = evaluate({})
    x = image[None].astype(np.float32) / 255
    error = float(make_distance(distance)(x, x - np.float32(10 / 255))[0])
    weights = [float(codec.lmbda(jnp.float32(q))) for q in (200, 800)]
    assert result["score"] == pytest.approx(np.mean([(1.5 + w * error) / w**0.5 for w in weights]), rel=1e-4)
    assert result["bpp_q200"] == pytest.approx(1.5)
    assert result["psnr_q800"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    if distance == "mse":
        assert error == pytest.approx(100, rel=1e-4)
    assert set(pictures) == {"q200", "q800"}
    original, decoded, _, visible = np.split(pictures["q200"], 4, axis=1)
    assert (original == image).all() and (decoded == image - 10).all()
    assert (visible == difference_picture(image, decoded)).all()
