from __future__ import annotations

import numpy as np
import pytest

from jnd_jax import baselines, metrics
from jnd_jax.errors import JndError

data = pytest.importorskip("skimage.data")
pytest.importorskip("imagecodecs")
pytest.importorskip("pyjpegli")


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_quality_buys_bytes_and_fidelity_at_any_size(name):
    image = np.ascontiguousarray(data.chelsea()[40:137, 120:219])
    grid = baselines.BASELINES[name].grid
    files = [baselines.encode(name, image, quality) for quality in (grid[0], grid[3], grid[-1])]
    decoded = [baselines.decode(name, file) for file in files]
    assert all(d.shape == image.shape and d.dtype == np.uint8 for d in decoded)
    sizes = [len(file) for file in files]
    quality = [metrics.measure("psnr", image, d) for d in decoded]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] < image.size
    assert quality == sorted(quality) and quality[0] > 20


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_both_ends_of_the_range_work_and_beyond_them_is_refused(name):
    image = np.ascontiguousarray(data.chelsea()[:48, :48])
    qualities = baselines.BASELINES[name].qualities
    assert set(baselines.BASELINES[name].grid) <= set(qualities)
    assert len(baselines.encode(name, image, qualities[0])) < len(
        baselines.encode(name, image, qualities[-1])
    )
    for outside in (qualities[0] - 1, qualities[-1] + 1):
        with pytest.raises(JndError, match="give"):
            baselines.encode(name, image, outside)
    assert baselines.BASELINES[name].version().split()[1] not in ("unknown", "None")


def test_jxl_distance_is_libjxls():
    assert baselines.jxl_distance(90) == pytest.approx(1.0)
    assert baselines.jxl_distance(30) == pytest.approx(6.4)
    assert baselines.jxl_distance(29.999) == pytest.approx(6.4, abs=0.05)
    assert baselines.jxl_distance(0) == 25


def test_unknown_codec_is_named():
    with pytest.raises(JndError, match="jpeg, jpegli"):
        baselines.encode("bpg", np.zeros((8, 8, 3), np.uint8), 50)
