"""The command line among other programs: pipes, links, names, a missing home; and the API against wrong arguments."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import ThreadpoolController

import jnd_jax
from jnd_jax import bitstream, files, images
from jnd_jax.cli import main
from jnd_jax.errors import JndError
from jnd_jax.image_codec import measure
from jnd_jax.perception.torch_file import read_state_dict
from jnd_jax.policy import Policy
from jnd_jax.search import Target, parse_target
from jnd_jax.threads import single_blas_thread
from tests.metrics.test_metrics import MISSING

PHOTO = np.kron(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.ones((8, 8, 1), np.uint8))


def program(*arguments, **options):
    command = [sys.executable, "-m", "jnd_jax.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, **options)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png", dpi=(300, 300))
    return tmp_path / "a.png"


def test_standard_input_and_output_without_home(photo, tiny_model, tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": "",
        "XDG_CACHE_HOME": "/proc",
    }
    options = {"env": environment, "cwd": tmp_path}
    coded = program("encode", "-", "-o", "-", "--model", tiny_model, input=photo.read_bytes(), **options)
    assert coded.returncode == 0, coded.stderr
    assert b"32x32" in coded.stderr and b"arning" not in coded.stderr
    shown = program("decode", "-", "-o", "-", "--format", "png", "--model", tiny_model, input=coded.stdout, **options)
    assert shown.returncode == 0 and images.parse_image(shown.stdout).density == (11811, 11811)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors") == ["a.png"]


def test_streams_that_are_closed(photo, tiny_model, monkeypatch):
    received = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", received)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["encode", str(photo), "-o", "-", "--model", str(tiny_model)]) == 0
    assert bitstream.unpack(received.buffer.getvalue())[0].width == 32
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(JndError, match="input is closed"):
        files.read_bytes(files.STDIN)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(JndError, match="output is closed"):
        files.write_bytes(files.STDOUT, b"")


def test_a_relative_cache_folder_is_none_and_is_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert files.cache_folder() is None and not list(tmp_path.iterdir())


def test_pipes_with_names_and_files_called_minus(photo, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("in.png"), os.mkfifo("out")
    received = []
    threads = [
        threading.Thread(target=lambda: (tmp_path / "in.png").write_bytes(photo.read_bytes())),
        threading.Thread(target=lambda: received.append((tmp_path / "out").read_bytes())),
    ]
    for thread in threads:
        thread.start()
    assert main(["encode", "in.png", "-o", "out", "--model", str(tiny_model)]) == 0
    for thread in threads:
        thread.join(30)
    assert bitstream.unpack(received[0])[0].width == 32 and stat.S_ISFIFO(os.stat("out").st_mode)
    reader, writer = os.pipe()
    assert main(["encode", "a.png", "-o", f"/dev/fd/{writer}", "--model", str(tiny_model)]) == 0
    assert os.read(reader, 2**16) == received[0]
    os.close(reader), os.close(writer)
    os.rename("a.png", "-")
    assert main(["encode", "./-", "-o", "a.jnd", "--model", str(tiny_model)]) == 0
    assert (tmp_path / "a.jnd").read_bytes() == received[0]


@pytest.mark.parametrize(
    "arguments", [["", "-o", "out/"], ["a.png", "-o", ""], ["-", "b.png", "-o", "out/"], ["-", "-o", "out/"]]
)
def test_names_that_mean_nothing_are_refused(arguments, capsys, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    assert main(["encode", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_links_and_permissions_are_kept(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    os.link(tmp_path / "real", tmp_path / "other")
    files.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    assert (tmp_path / "other").read_bytes() == b"old"
    files.write_bytes(tmp_path / ("n" * 251 + ".jnd"), b"a name as long as names may be")


def test_names_that_a_terminal_cannot_show_end_no_job(tmp_path, tiny_model):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"a.png", b"caf\xe9.png", "ü.png".encode(), b"z.png"):
        Image.fromarray(PHOTO).save(os.path.join(os.fsencode(folder), name), "PNG")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = program("encode", folder, "-o", tmp_path / "out", "--model", tiny_model, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_no_file_is_replaced_without_a_word(tmp_path, tiny_model, capsys):
    command = ["-o", f"{tmp_path}/out/", "--model", str(tiny_model)]
    for name in ("a.png", "A.bmp", "é.png"):
        Image.fromarray(PHOTO).save(tmp_path / name)
    assert main(["encode", str(tmp_path / "a.png"), *command]) == 0
    first = (tmp_path / "out/a.jnd").read_bytes()
    Image.fromarray(255 - PHOTO).save(tmp_path / "a.jpg")
    for other in ("a.jpg", "A.bmp"):
        assert main(["encode", str(tmp_path / other), *command]) == 1
        assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out/a.jnd").read_bytes() == first and len(list((tmp_path / "out").iterdir())) == 1
    assert main(["encode", str(tmp_path / "a.jpg"), *command, "--overwrite"]) == 0
    assert (tmp_path / "out/a.jnd").read_bytes() != first
    pairs = files.plan(["x/a.png", "y/A.jpg", "é.png", "é.jpg"], "out/", (".png",), (".jnd",), ".jnd")
    assert [target.name for _, target in pairs] == ["a.png.jnd", "A.jpg.jnd", "é.png.jnd", "é.jpg.jnd"]


def test_a_folder_run_goes_on_where_it_was(tmp_path, tiny_model, capsys):
    command = ["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    (tmp_path / "in").mkdir()
    for name in "abc":
        Image.fromarray(PHOTO).save(tmp_path / f"in/{name}.png")
    assert main(command) == 0
    (tmp_path / "out/b.jnd").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert main(command) == 1
    done, said = capsys.readouterr()
    assert done.count("\n") == 1 and "b.png" in done and said.count("\n") == 1 and "2 outputs" in said
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()) and (tmp_path / "out/b.jnd").exists()


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path):
    files.write_bytes(tmp_path / "a", b"1", replace=False)
    with pytest.raises(JndError, match="meanwhile"):
        files.write_bytes(tmp_path / "a", b"2", replace=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]


def test_info_tells_a_script_of_damage(tmp_path, tiny_model, capsys):
    data = jnd_jax.load(tiny_model).encode(PHOTO)
    (tmp_path / "a.jnd").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    for option in ([], ["--json"]):
        assert main(["info", str(tmp_path / "a.jnd"), *option]) == 2
    assert "DAMAGED" in capsys.readouterr().out


def test_info_is_json_whatever_it_is_asked(tmp_path, tiny_model, capsys, photo):
    model = jnd_jax.load(tiny_model)
    for note in (b"[" * 100000, b'{"reached": NaN}', b"\xff"):
        (tmp_path / "a.jnd").write_bytes(model.encode(PHOTO, extras={"note": note}))
        assert main(["info", str(tmp_path / "a.jnd"), "--json"]) == 0
        text = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["note"]["text"]
        assert text.startswith(note[:5].decode(errors="replace"))
    assert main(["info", str(photo), "--json"]) == 2
    assert "error" in json.loads(capsys.readouterr().out)


def test_wrong_values_are_sentences(photo, capsys, tmp_path):
    for text in ("jnd=inf", "jnd=nan", "psnr=inf"):
        with pytest.raises(JndError, match="target"):
            parse_target(text)
    command = ["encode", str(photo), "-o", str(tmp_path / "b.jnd"), "--sur", "75", "--labels", str(photo)]
    assert main(command) == 2
    assert "no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": "50"},
        {"quality": True},
        {"bpp": float("nan")},
        {"bpp": "1"},
        {"target": 38},
        {"mask": [[0]]},
        {"mask": np.zeros((32, 32))},
        {"region_quality": "x", "mask": np.zeros(PHOTO.shape[:2], np.uint8)},
        {"region_quality": 80},
        {"policy": "none.toml"},
        {"policy": Policy("own", "", Target("psnr", 1), Target("psnr", 1), 50, max_error=2.5)},
        {"extras": {"alpha": b"no image"}},
        {"extras": {"alpha": images.encode_lossless(np.zeros((3, 3), np.uint8))}},
        {"extras": {"density": bytes(8)}},
        {"extras": {"residual": b""}},
        {"extras": {"icc": "text"}},
        {"coder": "zip"},
        {"coder": None},
        {"policy": 3},
        {"target": Target("psnr", "x")},
    ],
)
def test_wrong_arguments_are_one_kind_of_error(tiny_model, arguments):
    with pytest.raises(JndError):
        jnd_jax.load(tiny_model).encode(PHOTO, **arguments)


@pytest.mark.parametrize("crop", [(0.5, 0, 5, 5), (0, 0, 5), "0,0,5,5", (float("nan"), 0, 1, 1), ()])
def test_parts_are_four_integers(tiny_model, crop):
    model = jnd_jax.load(tiny_model)
    with pytest.raises(JndError, match="four integers"):
        model.decode(model.encode(PHOTO), crop)


def test_numbers_may_be_numpy_s(tiny_model):
    model = jnd_jax.load(tiny_model)
    assert model.encode(PHOTO, np.int8(50)) == model.encode(PHOTO, np.float32(50)) == model.encode(PHOTO, 50)
    np.testing.assert_array_equal(model.decode(model.encode(PHOTO), np.array([0, 0, 5, 5])).shape, (5, 5, 3))
    exact = Policy("own", "", Target("psnr", 1), Target("psnr", 1), 50, max_error=np.int64(0))
    np.testing.assert_array_equal(model.decode(model.encode(PHOTO, policy=exact)), PHOTO)
    with pytest.raises(JndError, match="a name or a path"):
        jnd_jax.load(None)


def test_bytes_may_come_in_any_buffer(tiny_model):
    model = jnd_jax.load(tiny_model)
    data = model.encode(PHOTO)
    for form in (np.frombuffer(data, np.uint8), bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(model.decode(form), model.decode(data))
    with pytest.raises(JndError, match="must be bytes"):
        model.decode("a.jnd")


def test_a_caller_s_note_is_kept(tiny_model):
    model = jnd_jax.load(tiny_model)
    for note, kept in ((b'{"mine": 1}', {"mine": 1, "metric": "psnr"}), (b"text", None)):
        found = bitstream.unpack(model.encode(PHOTO, target="psnr=15", extras={"note": note}))[1]["note"]
        assert found == note if kept is None else kept.items() <= json.loads(found).items()


FORKING = """
import os, sys
import numpy as np
import jnd_jax

codec = jnd_jax.load(sys.argv[1])
data = codec.encode(np.zeros((16, 16, 3), np.uint8))
child = os.fork()
if child == 0:
    try:
        codec.decode(data)
    except jnd_jax.JndError as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_gets_an_error_and_never_hangs(tiny_model):
    # In a process of its own, which has no other threads.
    command = [sys.executable, "-W", "ignore", "-c", FORKING, str(tiny_model)]
    assert "forked" in subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_overlapping_calls_leave_blas_as_they_found_it():
    threads = lambda: [
        library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"
    ]
    before, gates = threads(), [threading.Event() for _ in range(3)]

    @single_blas_thread
    def work(started, ended):
        started.set()
        ended.wait(10)

    first = threading.Thread(target=work, args=(gates[0], gates[1]))
    first.start()
    gates[0].wait(10)
    second = threading.Thread(target=work, args=(gates[1], gates[2]))
    second.start()
    first.join(10)
    gates[2].set()
    second.join(10)
    assert threads() == before
    assert single_blas_thread(threads)() == [1] * len(before) and threads() == before


@pytest.mark.parametrize(
    "view", [(0, (10**9,), (1,)), (10**9, (1,), (1,)), (0, (4,), (-1,)), (0, (10**9,), (0,)), ("a", (1,), (1,))]
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, view):
    pushed = lambda value: pickle.dumps(value, 2)[2:-1]
    storage = b"(" + pushed("storage") + b"ctorch\nFloatStorage\n" + pushed("0") + pushed("cpu") + pushed(8) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(map(pushed, view)) + b"tR"
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\2}" + pushed("weight") + tensor + b"s.")
        archive.writestr("a/data/0", bytes(32))
    with pytest.raises(JndError, match="damaged"):
        read_state_dict(tmp_path / "a.pth")


def test_names_give_a_terminal_no_orders(tmp_path, tiny_model, capsys):
    for name in ("\x1b[31m.png", "a\nb.png"):
        Image.fromarray(PHOTO).save(tmp_path / name)
    (tmp_path / "\x1b[2Jbad.png").write_bytes(b"")
    assert main(["encode", str(tmp_path), "-o", f"{tmp_path}/out/", "--model", str(tiny_model)]) == 1 + 1
    text = "".join(capsys.readouterr())
    assert "\x1b" not in text and all("32x32" in line or "jnd-jax:" in line for line in text.splitlines())


def test_what_a_folder_holds_beside_files_is_named(tmp_path, tiny_model, capsys):
    (tmp_path / "in/sub").mkdir(parents=True)
    Image.fromarray(PHOTO).save(tmp_path / "in/sub/a.png")
    (tmp_path / "in/gone.png").symlink_to("nothing")
    (tmp_path / "in/loop").symlink_to("..")
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "in/.thumbnails").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "in/.thumbnails/b.png")
    assert main(["encode", f"{tmp_path}/in", "-o", f"{tmp_path}/out/", "--model", str(tiny_model)]) == 1
    named = [line.split(":")[1].rpartition("/")[2] for line in capsys.readouterr().err.splitlines()]
    assert named == ["gone.png", "loop", "pipe.png", " 3 files skipped"]
    assert [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "out").rglob("*.jnd"))] == ["out/sub/a.jnd"]


def test_a_failed_write_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(OSError) as caught:
        files.write_bytes("/proc/a.jnd", b"data")
    assert caught.value.filename == "/proc/a.jnd"


@pytest.mark.parametrize("metric", ["ssimulacra2", "ms-ssim", "cvvdp", "butteraugli", "psnr-hvs"])
def test_metrics_of_a_few_pixels(metric):
    if MISSING.get(metric):
        pytest.skip(f"the tool of {metric} is not installed")
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 3), dtype=np.uint8)
    same, different = measure(metric, noise, noise), measure(metric, noise, 255 - noise)
    assert (same < different) if metric == "butteraugli" else (same > different)
