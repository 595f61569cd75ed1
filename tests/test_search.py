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
    exact = search.smallest(encode, decode, lambda image: image[0] - 40, TENTHS, known={39.9: -0.1, 40.0: 0.0})
    assert exact.quality == 40.0 and exact.data == encode(40.0) and exact.encodes == 1


def test_largest_within_a_budget():
    found = search.largest_within(encode, 508, TENTHS)
    assert found.quality == 50.0 and found.value == 508
    with pytest.raises(JndError, match="more than 3"):
        search.largest_within(encode, 3, TENTHS)


def test_targets_are_read_as_users_write_them():
    assert search.parse_target("konjnd") == search.Target("ssimulacra2", 64, "konjnd", 1)
    assert search.parse_target("konjnd=0.5", "butteraugli") == search.Target("butteraugli", 0.8, "konjnd", 0.5)
    assert search.parse_target("jnd=0.5") == search.parse_target("aic=0.5")
    judged = search.parse_target("jnd")
    assert (judged.metric, judged.scale, judged.jnds) == ("cvvdp", "aic", 1)
    assert judged.value == pytest.approx(9.68, abs=0.005)
    assert search.parse_target("aic", "ssimulacra2").value == pytest.approx(79.9, abs=0.05)
    assert search.parse_target("visually-lossless") == search.Target("aic-strict", 0.5, "aic", 0.5)
    assert search.parse_target("bpp=0.25") == search.Target("bpp", 0.25)
    for bad in ("psnr", "psnr=high", "bpp=0", "jnd=x", "jnd=0.1", "aic=nan", "visually-lossless=1", "vmaf=90", ""):
        with pytest.raises(JndError):
            search.parse_target(bad)


def test_reach_with_a_real_codec():
    from skimage import data

    from jnd_jax import codecs, metrics

    image = np.ascontiguousarray(data.astronaut()[:128, :128])
    run = (
        lambda i, q: codecs.encode("jpeg", i, q),
        lambda d: codecs.decode("jpeg", d),
        codecs.lookup("jpeg").qualities,
    )
    found = search.reach(image, *run, search.Target("psnr", 33.0), tolerance=0)
    decoded = codecs.decode("jpeg", found.data)
    below = codecs.decode("jpeg", codecs.encode("jpeg", image, found.quality - 1))
    assert metrics.measure("psnr", image, decoded) == pytest.approx(found.value)
    assert metrics.measure("psnr", image, below) < 33.0 <= found.value
    small = search.reach(image, *run, search.Target("bpp", 1.0))
    assert small.value <= 1.0 and len(small.data) == small.value * 128 * 128 / 8
    with pytest.raises(JndError, match="psnr 60 is out of reach"):
        search.reach(image, *run, search.Target("psnr", 60.0))


def typical(quality: float) -> float:
    """SSIMULACRA2 of no image in particular."""
    return 95 - 92 * np.exp(-quality / 45)


# (gain, shift, steepness): what images differ in from a typical one.
IMAGES = [
    (1.0, 0.0, 45.0),
    (0.93, 0.0, 45.0),
    (1.0, -12.0, 45.0),
    (1.0, 15.0, 45.0),
    (1.0, 0.0, 25.0),
    (1.0, 0.0, 70.0),
    (0.97, 8.0, 30.0),
]


def score(quality: float, gain: float, shift: float, steepness: float) -> float:
    ripple = 0.15 * np.sin(40 * quality) + 1e-3 * quality  # real curves are not smooth
    return gain * (95 - 92 * np.exp(-(quality + shift + 12) / steepness)) + ripple


WITHIN_REACH = [
    (image, threshold) for image in IMAGES for threshold in (64.0, 82.0, 46.0) if score(100, *image) >= threshold
]


@pytest.mark.parametrize(("image", "threshold"), WITHIN_REACH)
def test_a_typical_curve_brings_any_image_there_in_six_encodes(image, threshold):
    curve = lambda quality: score(quality, *image)
    tolerance = 0.01 * threshold
    found = search.smallest(
        encode,
        decode,
        lambda image: curve(image[0]) - threshold,
        TENTHS,
        tolerance=tolerance,
        expected=[typical(q) - threshold for q in TENTHS],
    )
    assert 0 <= found.value <= tolerance and found.encodes <= 6


def test_a_plateau_below_the_threshold_misleads_no_search():
    """As Butteraugli has it on kodim23 of the Kodak set: hardly better from 46 to 48, then a jump."""
    typical_margin = np.interp(TENTHS, (0, 25, 50, 75, 100), (-2.3, -0.76, 0.14, 0.67, 0.94))
    curve = lambda q: np.interp(q, (0, 46.4, 48.0, 48.1, 49, 54.3, 100), (-2.5, -0.047, -0.033, 0.025, 0.1, 0.19, 0.9))
    found = search.smallest(
        encode, decode, lambda image: curve(image[0]), TENTHS, tolerance=0.016, expected=typical_margin
    )
    assert found.quality == 48.1 and found.encodes <= 7


def test_a_misleading_curve_costs_encodes_only():
    curve = CURVES["logistic"]
    for threshold in (5.0, 50.0, 97.0):
        found = search.smallest(
            encode,
            decode,
            lambda image: curve(image[0]) - threshold,
            TENTHS,
            expected=[typical(q) - 90 for q in TENTHS],
        )
        assert curve(found.quality) >= threshold > curve(found.quality - 0.1) and found.encodes <= 20


def levels(image: np.ndarray, grey: int) -> np.ndarray:
    return np.full((16, 16, 3), grey, np.uint8)


@pytest.mark.parametrize(
    ("target", "floor", "reached", "kept"),
    [
        (30.0, 20.0, 30.0, 30.0),  # the target is above its floor
        (30.0, 41.0, 41.0, 41.0),  # the floor asks for more
        (99.0, 20.0, 48.13, 48.13),  # the best there is
    ],
)
def test_a_floor_is_kept_whatever_the_target(target, floor, reached, kept):
    reference = np.full((16, 16, 3), 128, np.uint8)
    # An error of 255 / 10^(PSNR / 20) levels, a whole number: 48.13 dB at the best quality.
    codec = (
        lambda image, q: bytes([128 - round(1 + 60 * (1 - q / 100))]),
        lambda data: levels(reference, data[0]),
        TENTHS,
    )
    found, floor_value = search.reach_above(
        reference, *codec, search.Target("psnr", target), search.Target("psnr", floor), tolerance=0.0
    )
    assert found.value == pytest.approx(floor_value) and found.value >= floor
    assert reached - 0.01 <= found.value < reached + 1.2 and floor_value >= kept - 0.01


def test_a_floor_out_of_reach_is_refused():
    reference = np.full((16, 16, 3), 128, np.uint8)
    codec = (lambda image, q: bytes([120]), lambda data: levels(reference, data[0]), TENTHS)
    with pytest.raises(search.OutOfReach, match="keep this image in a lossless format"):
        search.reach_above(reference, *codec, search.Target("psnr", 60), search.Target("psnr", 50))
