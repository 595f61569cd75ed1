"""The files in desktop/, with the programs that read them."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from jnd_jax import cli
from jnd_jax.pillow import MIME

DESKTOP = Path(__file__).parent.parent / "desktop"
STREAM = Path(__file__).parent / "golden" / "astronaut-q20.jnd"


def run(*command: str, **environment: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    return subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout


def test_file_names_format_and_size():
    magic = str(DESKTOP / "jnd.magic")
    assert (
        run("file", "-b", "-m", magic, str(STREAM)).strip() == "JND image data, version 3, 130 x 200, 8-bit, quality 20"
    )
    assert run("file", "-b", "--mime-type", "-m", magic, str(STREAM)).strip() == MIME


def test_shared_mime_info_knows_suffix_and_magic_bytes(tmp_path):
    packages = tmp_path / "mime" / "packages"
    packages.mkdir(parents=True)
    shutil.copy(DESKTOP / "jnd.xml", packages)
    run("update-mime-database", str(tmp_path / "mime"))
    shutil.copy(STREAM, tmp_path / "nameless")
    (tmp_path / "other.jnd").write_bytes(b"\0\1")
    for path in ("nameless", "other.jnd"):
        answer = run("gio", "info", "-a", "standard::content-type", str(tmp_path / path), XDG_DATA_HOME=str(tmp_path))
        assert f"standard::content-type: {MIME}" in answer


def test_the_thumbnailer_entry_writes_upright_thumbnails(tmp_path, golden_model):
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(DESKTOP / "jnd.thumbnailer")
    assert MIME in entry["Thumbnailer Entry"]["MimeType"].split(";")
    source, target = tmp_path / "photo", tmp_path / "thumbnail"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.linear_gradient("L").resize((300, 200)).save(source, "JND", exif=exif)
    fill = {"%i": str(source), "%o": str(target), "%s": "128"}
    command = [fill.get(word, word) for word in entry["Thumbnailer Entry"]["Exec"].split()]
    assert command[0] == "jnd-jax" and cli.main(command[1:]) == 0
    with Image.open(target) as image:
        assert (image.format, image.size) == ("PNG", (85, 128))


def test_a_thumbnail_of_another_file_is_refused(tmp_path, capsys):
    assert cli.main(["thumbnail", str(DESKTOP / "jnd.xml"), str(tmp_path / "thumbnail")]) == 2
    assert "cannot identify" in capsys.readouterr().err
    assert not (tmp_path / "thumbnail").exists()
