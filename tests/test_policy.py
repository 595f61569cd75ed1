"""Policies, and what a file says of the target it was made to reach."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage import data

import jnd_jax
from jnd_jax import bitstream, metrics, policy
from jnd_jax.errors import JndError
from jnd_jax.search import Target

PHOTO = np.ascontiguousarray(data.astronaut()[:128, 100:292])
TOML = 'about = "a test"\ntarget = "psnr={}"\nfloor = "{}"\nregion_quality = 90\n'


def write(folder, target, floor):
    path = folder / "strict.toml"
    path.write_text(TOML.format(target, floor))
    return str(path)


def reached(model, stream, metric):
    return metrics.measure(metric, PHOTO, model.decode(stream))


def note(stream):
    return json.loads(bitstream.unpack(stream)[1]["note"])


def test_the_shipped_policies_are_read():
    assert policy.names() == ["inspection", "medical", "text"]
    medical = policy.load("medical")
    assert (medical.target, medical.floor, medical.max_error) == (
        Target("ssimulacra2", 82.0, "konjnd", 0.5),
        Target("psnr", 40.0),
        4,
    )
    assert all(policy.load(name).about for name in policy.names())


@pytest.mark.parametrize(("target", "floor"), [(28, "psnr-y=20"), (28, "psnr-y=29.2"), (60, "psnr-y=20")])
def test_a_policy_never_goes_under_its_floor(tiny_model, tmp_path, target, floor):
    model = jnd_jax.load(tiny_model)
    stream = model.encode(PHOTO, policy=write(tmp_path, target, floor))
    said = note(stream)
    assert said["policy"] == "strict"
    assert said["reached"] == pytest.approx(reached(model, stream, "psnr"), abs=1e-3)
    assert said["floor"]["reached"] == pytest.approx(reached(model, stream, "psnr-y"), abs=1e-3)
    assert reached(model, stream, "psnr-y") >= float(floor.partition("=")[2])
    # Where the floor is no matter, no more is spent than the target needs.
    if (target, floor) == (28, "psnr-y=20"):
        assert 28 <= said["reached"] <= 28.28
    if target == 60:
        assert bitstream.unpack(stream)[0].quality == 1000


def test_a_floor_out_of_reach_is_refused(tiny_model, tmp_path):
    with pytest.raises(JndError, match="out of reach"):
        jnd_jax.load(tiny_model).encode(PHOTO, policy=write(tmp_path, 28, "psnr=70"))


def test_a_policy_has_a_quality_for_regions(tiny_model, tmp_path):
    mask = np.zeros(PHOTO.shape[:2], np.uint8)
    mask[:40, :40] = 255
    stream = jnd_jax.load(tiny_model).encode(PHOTO, policy=write(tmp_path, 28, "psnr=20"), mask=mask)
    from jnd_jax.codec import regions

    header, chunks = bitstream.unpack(stream)
    assert header.quality < 900 and regions.of_file(header, chunks).max() == 900


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target = ", "read as TOML"),
        ('about = "a"\ntarget = "psnr=40"\n', "exactly about, target, floor, region_quality"),
        (TOML.format(40, "psnr=30").replace("90", '"high"'), "exactly about"),
        (TOML.format(40, "sharp=3"), "Unknown metric"),
        (TOML.format(40, "bpp=1"), "keeps no detail"),
        (TOML.format(40, "psnr=30").replace("90", "101"), "0 to 100"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(JndError, match=message):
        policy.load(str(path))


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(JndError, match="inspection, medical, text"):
        policy.load("legal")


def test_a_target_s_value_is_in_the_note(tiny_model):
    model = jnd_jax.load(tiny_model)
    stream = model.encode(PHOTO, target="psnr=28")
    assert note(stream) == {"metric": "psnr", "target": 28.0, "reached": float(f"{reached(model, stream, 'psnr'):.6g}")}
    assert 28 <= note(stream)["reached"] <= 28.28
    assert "note" not in bitstream.unpack(model.encode(PHOTO, 50))[1]
    # A level of people's scale comes with its error.
    judged = note(model.encode(PHOTO, target=Target("ssimulacra2", 10.0, "aic", 3.0)))
    assert (judged["scale"], judged["jnd"], judged["jnd_error"]) == ("aic", 3, 0.485)
