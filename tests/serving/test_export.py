"""What of serving works without TensorFlow: StableHLO, and the sentences where it is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from jnd_jax.cli import main
from tests.serving import golden

# A process that knows neither the package nor the model.
RELOADED = """
import sys
sys.path = [path for path in sys.path if path]
import jax, numpy as np
from jax import export
inputs = np.load(sys.argv[2])
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
np.save(sys.argv[3], call(inputs["symbols"], inputs["z"], inputs["quality"]))
assert not any(name.startswith("jnd_jax") for name in sys.modules)
"""


def test_stablehlo_decodes_in_a_fresh_process(tmp_path):
    header, latents, z, expected = golden.read("astronaut-q20")
    size = f"{header.width}x{header.height}"
    out = tmp_path / "out"
    assert main(["export", str(golden.MODEL), "-o", str(out), "--format", "stablehlo", "--size", size]) == 0
    assert json.loads((out / "conversion.json").read_text())["differences"]["pixels"]["largest_difference"] <= 1
    integers = golden.integers(header, latents, z)
    inputs = json.loads((out / "conversion.json").read_text())["inputs"]
    assert inputs == {name: [value.dtype.name, list(value.shape)] for name, value in integers.items()}
    np.savez(tmp_path / "in.npz", **integers)
    subprocess.run(
        [sys.executable, "-c", RELOADED, out / "synthesize.stablehlo", tmp_path / "in.npz", tmp_path / "x.npy"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    golden.assert_same_pixels(np.load(tmp_path / "x.npy")[0], expected)


def test_an_existing_folder_is_left_alone(tmp_path, capsys):
    assert main(["export", str(golden.MODEL), "-o", str(tmp_path), "--format", "stablehlo"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
@pytest.mark.parametrize(
    "command, extra",
    [
        (["export", str(golden.MODEL), "-o", "OUT"], "jnd-jax[tf]"),
        (["export", str(golden.MODEL), "-o", "OUT", "--format", "tflite"], "jnd-jax[tf]"),
        (
            [
                "transcode",
                str(golden.FOLDER / "astronaut-q60.jnd"),
                "-o",
                "OUT.jnd",
                "--coder",
                "tfc",
                "--model",
                str(golden.MODEL),
            ],
            "jnd-jax[tfc]",
        ),
    ],
)
def test_without_tensorflow_the_extra_is_named(tmp_path, capsys, monkeypatch, command, extra):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert extra in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_transcoding_to_the_same_coder_changes_no_byte(tmp_path):
    source, target = golden.FOLDER / "astronaut-q20.jnd", tmp_path / "b.jnd"
    assert (
        main(["transcode", str(source), "-o", str(target), "--coder", "constriction", "--model", str(golden.MODEL)])
        == 0
    )
    assert target.read_bytes() == source.read_bytes()
