from __future__ import annotations

import json
import shlex
import sys

import numpy as np
import pytest

from jnd_jax import codecs, metrics
from jnd_jax.errors import JndError

data = pytest.importorskip("skimage.data")
pytest.importorskip("imagecodecs")
pytest.importorskip("pyjpegli")


@pytest.mark.parametrize("name", codecs.CONVENTIONAL)
def test_quality_buys_bytes_and_fidelity_at_any_size(name):
    image = np.ascontiguousarray(data.chelsea()[40:137, 120:219])
    grid = codecs.CONVENTIONAL[name].grid
    files = [codecs.encode(name, image, quality) for quality in (grid[0], grid[3], grid[-1])]
    decoded = [codecs.decode(name, file) for file in files]
    assert all(d.shape == image.shape and d.dtype == np.uint8 for d in decoded)
    sizes = [len(file) for file in files]
    quality = [metrics.measure("psnr", image, d) for d in decoded]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] < image.size
    assert quality == sorted(quality) and quality[0] > 20


@pytest.mark.parametrize("name", codecs.CONVENTIONAL)
def test_both_ends_of_the_range_work_and_beyond_them_is_refused(name):
    image = np.ascontiguousarray(data.chelsea()[:48, :48])
    qualities = codecs.CONVENTIONAL[name].qualities
    assert set(codecs.CONVENTIONAL[name].grid) <= set(qualities)
    assert len(codecs.encode(name, image, qualities[0])) < len(codecs.encode(name, image, qualities[-1]))
    for outside in (qualities[0] - 1, qualities[-1] + 1):
        with pytest.raises(JndError, match="Give"):
            codecs.encode(name, image, outside)
    assert codecs.CONVENTIONAL[name].library().split()[1] not in ("unknown", "None")


def test_jxl_distance_is_libjxls():
    assert codecs.jxl_distance(90) == pytest.approx(1.0)
    assert codecs.jxl_distance(30) == pytest.approx(6.4)
    assert codecs.jxl_distance(29.999) == pytest.approx(6.4, abs=0.05)
    assert codecs.jxl_distance(0) == 25


def test_unknown_codec_is_named():
    with pytest.raises(JndError, match="jpeg, jpegli"):
        codecs.encode("bpg", np.zeros((8, 8, 3), np.uint8), 50)


def describe(path, **changes):
    """A description of Pillow's WebP, run as a program with a quantiser in the place of a quality."""
    python = shlex.quote(sys.executable)
    program = (
        "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], quality=int((sys.argv + [0])[3]))"
    )
    lines = {
        "title": "WebP by a program",
        "encode": f"{python} -c {shlex.quote(program)} {{input}} {{output}} {{qp}}",
        "decode": f"{python} -c {shlex.quote(program)} {{input}} {{output}} 0",
        "version": f"{python} -c 'print(17)'",
        "suffix": ".webp",
        "qualities": [-90, -80],
        "grid": [-90, -80],
    } | changes
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items() if value is not None))
    return str(path)


def test_a_program_is_a_codec(tmp_path):
    name = describe(tmp_path / "other.toml")
    codec = codecs.lookup(name)
    assert (codec.name, codec.title) == ("other", "WebP by a program") and codec.settings.endswith("; 17")
    image = np.ascontiguousarray(data.chelsea()[:40, :50])
    file = codec.encode(image, -80)
    assert file == codecs._pillow_encode(format="WEBP")(image, 80)
    assert (codec.decode(file) == codecs.decode("webp", file)).all()
    assert codecs.lookup(describe(tmp_path / "other.toml", suffix=".WEBP")).version != codec.version


def test_what_is_wrong_with_a_program_is_said(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    path = tmp_path / "other.toml"
    for changes, complaint in (
        ({"title": None}, "by the lines title"),
        ({"qualities": [2, 1], "grid": [2]}, "ascending"),
        ({"grid": [5]}, "a grid of some"),
        ({"encode": "no-such-program {input}"}, "Install no-such-program"),
        ({"encode": "true"}, "writes no"),
        ({"encode": f"{shlex.quote(sys.executable)} -c 'raise SystemExit(\"too dark\")'"}, "too dark"),
    ):
        with pytest.raises(JndError, match=complaint):
            codecs.encode(describe(path, **changes), image, -80)
    with pytest.raises(JndError, match="No such file"):
        codecs.lookup(str(tmp_path / "none.toml"))
