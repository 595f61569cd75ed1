"""Files that end too soon."""

from __future__ import annotations

import numpy as np
import pytest

import jnd_jax
from jnd_jax import bitstream, images, zoo
from jnd_jax.cli import main
from jnd_jax.errors import JndError
from jnd_jax.metrics.psnr import psnr
from tests.streams import CRC


@pytest.fixture(scope="module")
def photo():
    return images.read_image(zoo.FOLDER / "chelsea.png").pixels[40:210, 60:290]


def test_the_more_arrives_the_closer_the_image(photo, golden_model):
    codec = jnd_jax.load(str(golden_model))
    data = codec.encode(photo, 60)
    whole = codec.decode(data)
    size = len(bitstream.unpack(data)[1]["y"])
    start = len(data) - CRC - size
    quality = []
    for share in (0.0, 0.2, 0.5, 0.8):
        pixels, told = codec.decode_partial(data[: start + int(share * size)])
        assert pixels.shape == photo.shape and abs(told - share) < 0.01
        quality.append(psnr(whole, pixels))
    assert quality == sorted(quality) and quality[-1] > quality[0] + 5
    pixels, told = codec.decode_partial(data)
    assert told == 1 and np.array_equal(pixels, whole)


def test_what_cannot_be_decoded_is_refused(photo, golden_model):
    codec = jnd_jax.load(str(golden_model))
    data = codec.encode(photo, 60)
    head = len(data) - CRC - len(bitstream.unpack(data)[1]["y"])
    for cut in (20, 30, head - 1):
        with pytest.raises(JndError, match="ends"):
            codec.decode_partial(data[:cut])
    with pytest.raises(JndError, match="damaged"):
        codec.decode_partial(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[:50, :50] = 255
    with pytest.raises(JndError, match="ends before"):
        codec.decode_partial(codec.encode(photo, 60, mask=mask)[:-40])


def test_the_command_says_how_much_arrived(tmp_path, capsys, photo, golden_model):
    data = jnd_jax.load(str(golden_model)).encode(photo, 60)
    (tmp_path / "cut.jnd").write_bytes(data[: len(data) * 2 // 3])
    command = ["decode", str(tmp_path / "cut.jnd"), "-o", str(tmp_path / "cut.png"), "--model", str(golden_model)]
    assert main(command) == 2
    assert not (tmp_path / "cut.png").exists()
    assert main([*command, "--partial"]) == 0
    assert "PARTIAL: " in capsys.readouterr().out
    assert images.read_image(tmp_path / "cut.png").pixels.shape == photo.shape


def test_the_command_names_what_is_lost_behind_the_latents(tmp_path, capsys, photo, golden_model):
    data = jnd_jax.load(str(golden_model)).encode(photo, 60, extras={"icc": bytes(90), "xmp": b"x" * 90})
    command = ["decode", str(tmp_path / "cut.jnd"), "-o", str(tmp_path / "cut.png"), "--model", str(golden_model)]
    (tmp_path / "cut.jnd").write_bytes(data[:-100])
    assert main([*command, "--partial"]) == 0
    assert "PARTIAL: 100% of the latents arrived, without icc, without xmp" in capsys.readouterr().out
    (tmp_path / "cut.jnd").write_bytes(data + bytes(9))
    assert main([*command, "--partial"]) == 2
    assert "9 bytes follow the end" in capsys.readouterr().err
