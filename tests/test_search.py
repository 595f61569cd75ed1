from __future__ import annotations

import numpy as np
import pytest

from jnd_jax import search
from jnd_jax.errors import JndError

TENTHS = [tenth / 10 for tenth in range(1001)]


def as_image(quality: float) -> np.ndarray:
    return np.array([quality])


def encode(quality: float) -> bytes:
    return f"{quality:.1f}".encode().ljust(int(quality * 10) + 8)


def decode(data: bytes) -> np.ndarray:
    return as_image(float(data))


CURVES = {
    "linear": lambda q: 22 + 0.2 * q,
    "concave, as SSIMULACRA2": lambda q: 95 - 110 * np.exp(-q / 30),
    "convex": lambda q: 20 + 30 * (q / 100) ** 3,
    "logistic": lambda q: 100 / (1 + np.exp((50 - q) / 10)),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("crossing", [3.3, 20.0, 47.2, 88.8, 100.0])
def test_exact_search_finds_the_lowest_passing_quality(name, crossing):
    curve = CURVES[name]
    threshold = curve(crossing) - 1e-9
    found = search.smallest(encode, decode, lambda image: curve(image[0]) - threshold, TENTHS)
    assert found.quality == pytest.approx(crossing)
    assert found.data == encode(crossing)
    assert found.encodes <= 14


@pytest.mark.parametrize("name", ["linear", "concave, as SSIMULACRA2", "convex"])
@pytest.mark.parametrize("crossing", [15.0, 33.3, 60.1, 85.0])
def test_six_encodes_get_within_one_percent(name, crossing):
    curve = CURVES[name]
    threshold = curve(crossing)
    found = search.smallest(
        encode, decode, lambda image: curve(image[0]) - threshold, TENTHS, tolerance=0.01 * threshold
    )
    assert found.encodes <= 6
    assert 0 <= found.value <= 0.01 * threshold


def test_a_bare_predicate_is_bisected():
    found = search.smallest(encode, decode, lambda image: image[0] >= 70.3, TENTHS)
    assert found.quality == 70.3 and found.encodes <= 11


def test_first_quality_is_found_when_all_pass():
    assert search.smallest(encode, decode, lambda image: 1.0 + image[0], TENTHS).quality == 0


def test_unreachable_target_names_the_miss():
    with pytest.raises(JndError, match="quality 100 misses the target .by 5"):
        search.smallest(encode, decode, lambda image: image[0] - 105, TENTHS)


def test_known_margins_save_encodes():
    curve = CURVES["concave, as SSIMULACRA2"]
    known = {q: curve(q) - 64 for q in (10.0, 30.0, 40.0, 60.0, 90.0)}
    alone = search.smallest(encode, decode, lambda image: curve(image[0]) - 64, TENTHS)
    helped = search.smallest(encode, decode, lambda image: curve(image[0]) - 64, TENTHS, known=known)
    assert helped.quality == alone.quality and helped.encodes < alone.encodes
    exact = search.smallest(
        encode, decode, lambda image: image[0] - 40, TENTHS, known={39.9: -0.1, 40.0: 0.0}
    )
    assert exact.quality == 40.0 and exact.data == encode(40.0) and exact.encodes == 1


def test_largest_within_a_budget():
    found = search.largest_within(encode, 508, TENTHS)
    assert found.quality == 50.0 and found.value == 508
    with pytest.raises(JndError, match="more than 3"):
        search.largest_within(encode, 3, TENTHS)


def test_targets_are_read_as_users_write_them():
    assert search.parse_target("jnd") == search.Target("ssimulacra2", 64)
    assert search.parse_target("jnd=0.5", "butteraugli") == search.Target("butteraugli", 0.8)
    assert search.parse_target("bpp=0.25") == search.Target("bpp", 0.25)
    for bad in ("psnr", "psnr=high", "bpp=0", "jnd=x", "vmaf=90", ""):
        with pytest.raises(JndError):
            search.parse_target(bad)


def test_reach_with_a_real_codec():
    data = pytest.importorskip("skimage.data")
    from jnd_jax import baselines, metrics

    image = np.ascontiguousarray(data.astronaut()[:128, :128])
    run = (
        lambda i, q: baselines.encode("jpeg", i, q),
        lambda d: baselines.decode("jpeg", d),
        baselines.BASELINES["jpeg"].qualities,
    )
    found = search.reach(image, *run, search.Target("psnr", 33.0), tolerance=0)
    decoded = baselines.decode("jpeg", found.data)
    below = baselines.decode("jpeg", baselines.encode("jpeg", image, found.quality - 1))
    assert metrics.measure("psnr", image, decoded) == pytest.approx(found.value)
    assert metrics.measure("psnr", image, below) < 33.0 <= found.value
    small = search.reach(image, *run, search.Target("bpp", 1.0))
    assert small.value <= 1.0 and len(small.data) == small.value * 128 * 128 / 8
    with pytest.raises(JndError, match="psnr 60 is out of reach"):
        search.reach(image, *run, search.Target("psnr", 60.0))
