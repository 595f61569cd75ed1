from __future__ import annotations

import numpy as np
import pytest

from jnd_jax.perception.hvs import hvs_error, hvs_m_error
from tests.photos import noisy


@pytest.mark.parametrize("sigma", [2, 8, 20])
def test_hvs_errors_equal_the_package(photos, sigma):
    package = pytest.importorskip("psnr_hvsm")
    x, y = photos, noisy(photos, sigma)
    luma = [package.bt601ycbcr(255 * image[0].astype(np.float64), precision="float")[0] for image in (x, y)]
    hvs, hvs_m = package.hvs_hvsm_mse(*luma)
    assert float(hvs_error(x, y)[0]) == pytest.approx(hvs, rel=1e-3)
    assert float(hvs_m_error(x, y)[0]) == pytest.approx(hvs_m, rel=1e-3)
