from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

import jnd_jax
from jnd_jax import bitstream, zoo
from jnd_jax.cli import main
from jnd_jax.metrics.psnr import psnr

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def installed(tiny_model, monkeypatch):
    """The tiny model as the only one that comes with the package, and the default."""
    monkeypatch.setattr(zoo, "models", lambda: {tiny_model.stem: tiny_model})
    monkeypatch.setattr(zoo, "DEFAULT", "jnd-tiny")


def photo(height=40, width=56) -> np.ndarray:
    with Image.open(zoo.FOLDER / "chelsea.png") as image:
        return np.asarray(image.resize((width, height)))


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo() if image is None else image).save(path, **options)
    return str(path)


def run(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_file_there_and_back(tmp_path, capsys, tiny_model):
    source = save(tmp_path / "a.png")
    assert run("encode", source, "-o", tmp_path / "a.jnd", "--quality", "62.5", "--verify") == 0
    data = (tmp_path / "a.jnd").read_bytes()
    assert bitstream.unpack(data)[0].quality == 625
    decoded = jnd_jax.load(str(tiny_model)).decode(data)
    assert capsys.readouterr().out == (
        f"{source}  56x40  {len(data)} bytes  {8 * len(data) / (56 * 40):.3f} bpp  "
        f"PSNR {psnr(photo(), decoded):.2f} dB\n"
    )
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / "b.png") == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), decoded)
    assert tree(tmp_path) == ["a.jnd", "a.png", "b.png"]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff"])
def test_other_formats_by_suffix(tmp_path, suffix):
    save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd") == 0
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / f"b.{suffix}") == 0
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert image.format == {"jpg": "JPEG"}.get(suffix, suffix.upper()) and image.size == (56, 40)


def test_profile_orientation_and_alpha_survive(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = np.tri(40, 56, dtype=np.uint8) * 200
    save(tmp_path / "a.png", np.dstack([photo(), alpha]), icc_profile=SRGB, exif=exif)
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--quality", "90") == 0
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / "b.png") == 0
    source, decoded = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "b.png")
    assert decoded.info["icc_profile"] == SRGB
    np.testing.assert_array_equal(np.asarray(decoded)[..., 3], alpha)
    source, decoded = (np.asarray(ImageOps.exif_transpose(image)) for image in (source, decoded))
    assert decoded.shape == (56, 40, 4)
    seen = source[..., 3] > 0
    assert psnr(source[seen][None, :, :3].copy(), decoded[seen][None, :, :3].copy()) > 20


def test_a_preview_has_a_fraction_of_the_size_and_all_metadata(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / "photo.png", photo(90, 130), icc_profile=icc)
    run("encode", tmp_path / "photo.png", "-o", tmp_path / "photo.jnd")
    run("decode", tmp_path / "photo.jnd", "-o", tmp_path / "small.png", "--scale", "8")
    with Image.open(tmp_path / "small.png") as image:
        assert image.size == (17, 12) and image.info["icc_profile"] == icc


def test_a_part_of_the_image(tmp_path, capsys):
    save(tmp_path / "photo.png", photo(90, 130))
    run("encode", tmp_path / "photo.png", "-o", tmp_path / "photo.jnd")
    assert run("decode", tmp_path / "photo.jnd", "-o", tmp_path / "part.png", "--crop", "30,20,50,40") == 0
    with Image.open(tmp_path / "part.png") as image:
        assert image.size == (50, 40)
    assert run("decode", tmp_path / "photo.jnd", "-o", tmp_path / "none.png", "--crop", "100,20,50,40") == 2
    assert "does not lie in the image of 130x90" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_target_is_reached(tmp_path, capsys):
    save(tmp_path / "a.png", photo(96, 128))
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--target", "bpp=1.5") == 0
    size = (tmp_path / "a.jnd").stat().st_size
    assert 0.9 * 1.5 < size * 8 / (96 * 128) <= 1.5
    quality = bitstream.probe((tmp_path / "a.jnd").read_bytes())["quality"] / 10
    assert capsys.readouterr().out.endswith(f"quality {quality:g}\n")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "b.jnd", "--target", "bpp=0.001") == 2
    assert "choose a larger target" in capsys.readouterr().err
    assert not (tmp_path / "b.jnd").exists()


def test_a_just_noticeable_difference_is_reached(tmp_path, capsys):
    save(tmp_path / "a.png", photo(96, 128))
    # The untrained model of the tests reaches no whole JND.
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--target", "konjnd=2.5") == 0
    note = json.loads(bitstream.unpack((tmp_path / "a.jnd").read_bytes())[1]["note"])
    assert note["metric"] == "ssimulacra2" and note["target"] == 10 <= note["reached"]
    assert f"  ssimulacra2 {note['reached']:g}\n" in capsys.readouterr().out
    assert (
        run("encode", tmp_path / "a.png", "-o", tmp_path / "b.jnd", "--target", "konjnd=8", "--metric", "psnr-hvs") == 0
    )
    note = json.loads(bitstream.unpack((tmp_path / "b.jnd").read_bytes())[1]["note"])
    assert (note["metric"], note["target"]) == ("psnr-hvs", 22.0382)
    capsys.readouterr()
    assert run("info", tmp_path / "b.jnd", "--json") == 0
    assert json.loads(capsys.readouterr().out)["note"] == note


def test_people_s_answers_choose_the_quality(tmp_path, capsys, tiny_model):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    labels = tmp_path / "jnd.csv"
    labels.write_text(
        "image,codec,subjects,sur50,sur75\na,jpeg,20,10,11\na,jnd-tiny-1,21,30,42.5\nb,jnd-tiny-1,22,90,\n"
    )
    sur = ("--target", "jnd", "--sur", "75", "--labels", labels)
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", *sur) == 0
    header, chunks = bitstream.unpack((tmp_path / "a.jnd").read_bytes())
    assert header.quality == 425 and json.loads(chunks["note"]) == {"sur": 75, "subjects": 21}
    capsys.readouterr()
    for name, message in (("b", "fewer than 75 %"), ("c", "no row of this image")):
        assert run("encode", tmp_path / f"{name}.png", "-o", tmp_path / f"{name}.jnd", *sur) == 2
        assert message in capsys.readouterr().err
    labels.write_text("image,codec\na,jnd-tiny-1\n")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "c.jnd", *sur) == 2
    assert "column subjects, sur75" in capsys.readouterr().err
    assert not (tmp_path / "c.jnd").exists()


def test_a_region_is_coded_and_shown(tmp_path, capsys):
    save(tmp_path / "a.png", photo(96, 128))
    mask = np.zeros((96, 128), np.uint8)
    mask[:40, :40] = 255
    save(tmp_path / "mask.png", mask)
    region = ("--region", tmp_path / "mask.png", "--region-quality", "80")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--quality", "30", *region) == 0
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / "b.png") == 0
    capsys.readouterr()
    assert run("info", tmp_path / "a.jnd", "--json") == 0
    fields = json.loads(capsys.readouterr().out)
    # 3x3 of the blocks reach the region; the grid is that of 128x128 pixels.
    assert fields["quality"] == 300 and fields["regions"] == {"lowest": 30, "highest": 80, "raised": round(9 / 64, 4)}
    assert run("info", tmp_path / "a.jnd") == 0
    assert "regions" in capsys.readouterr().out
    save(tmp_path / "mask.png", photo(96, 128))
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "c.jnd", *region) == 2
    assert "has colours" in capsys.readouterr().err


def test_a_policy_is_kept_or_no_file_is_written(tmp_path, capsys):
    save(tmp_path / "a.png", photo(96, 128))
    policy = tmp_path / "strict.toml"
    policy.write_text('about = "anything"\ntarget = "psnr=20"\nfloor = "ssimulacra2=95"\nregion_quality = 90\n')
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--policy", policy) == 2
    assert "ssimulacra2 95" in capsys.readouterr().err and not (tmp_path / "a.jnd").exists()
    policy = tmp_path / "easy.toml"
    policy.write_text('about = "anything"\ntarget = "psnr=20"\nfloor = "psnr-y=10"\nregion_quality = 90\n')
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd", "--policy", policy) == 0
    capsys.readouterr()
    assert run("info", tmp_path / "a.jnd", "--json") == 0
    note = json.loads(capsys.readouterr().out)["note"]
    assert note["policy"] == "easy" and note["floor"]["target"] == 10 <= note["floor"]["reached"]


def test_folders_become_folders(tmp_path, capsys):
    for name in ("a.png", "deep/er/b.JPG", "same.png", "same.webp"):
        save(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("no image")
    assert run("encode", tmp_path / "in", "-o", tmp_path / "coded") == 1
    assert tree(tmp_path / "coded") == ["a.jnd", "deep/er/b.jnd", "same.png.jnd", "same.webp.jnd"]
    assert (
        capsys.readouterr().err == f"jnd-jax: {tmp_path}/in/notes.txt: warning: it is of another kind, and is skipped\n"
    )
    assert run("decode", tmp_path / "coded", "-o", tmp_path / "out", "--format", "webp") == 0
    assert tree(tmp_path / "out") == ["a.webp", "deep/er/b.webp", "same.png.webp", "same.webp.webp"]


def test_several_files_go_into_a_folder(tmp_path, capsys):
    files = [save(tmp_path / "x/a.png"), save(tmp_path / "y/b.png"), save(tmp_path / "y/a.png")]
    assert run("encode", *files, "-o", tmp_path / "out") == 2
    assert tree(tmp_path / "out") == ["a.png.jnd", "b.jnd"]
    assert capsys.readouterr().err.splitlines()[0].startswith(f"jnd-jax: {files[2]}: Rename it")


def test_a_failure_is_reported_and_the_others_are_done(tmp_path, capsys):
    for name in ("a.png", "c.png", "d.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in/b.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:500])
    save(tmp_path / "in/d.png", photo(), append_images=[Image.fromarray(255 - photo())], save_all=True)
    assert run("encode", tmp_path / "in", tmp_path / "none.png", "-o", tmp_path / "coded") == 2
    assert tree(tmp_path / "coded") == ["a.jnd", "c.jnd"]
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in errors[:3]] == [
        str(tmp_path / "in/b.png"),
        str(tmp_path / "in/d.png"),
        str(tmp_path / "none.png"),
    ]
    assert "truncated or damaged" in errors[0] and "extract the 2 frames" in errors[1]
    assert "No such file" in errors[2] and errors[3] == "jnd-jax: 3 of 5 files failed" and len(errors) == 4

    damaged = bytearray((tmp_path / "coded/a.jnd").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "coded/a.jnd").write_bytes(damaged)
    assert run("decode", tmp_path / "coded", "-o", tmp_path / "out") == 2
    assert tree(tmp_path / "out") == ["c.png"]
    assert "chunk y is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "a.png", "-o", "a.png"), "one of the suffixes .jnd"),
        (("encode", "a.png", "b.png", "-o", "a.jnd"), "Give a folder"),
        (("encode", "empty", "-o", "out"), "empty holds none"),
        (("encode", "a.png", "-o", "a.jnd", "--model", "jnd-none"), "names jnd-tiny-1"),
        (("encode", "a.png", "-o", "a.jnd", "--quality", "101"), "0 to 100"),
        (("encode", "a.png", "-o", "a.jnd", "--quality", "50.55"), "in tenths"),
        (("encode", "a.png", "-o", "a.jnd", "--quality", "nan"), "0 to 100"),
        (("encode", "a.png", "-o", "a.jnd", "--target", "bytes=1"), "bytes"),
        (("encode", "a.png", "-o", "a.jnd", "--quality", "5", "--target", "bpp=1"), "not allowed with"),
        (("encode", "a.png", "-o", "a.jnd", "--target", "jnd", "--sur", "75"), "--sur and --labels together"),
        (("encode", "a.png", "-o", "a.jnd", "--sur", "75", "--labels", "l.csv", "--quality", "5"), "alone or with"),
        (
            ("encode", "a.png", "-o", "a.jnd", "--sur", "75", "--labels", "l.csv", "--target", "psnr=30"),
            "alone or with",
        ),
        (("encode", "a.png", "-o", "a.jnd", "--target", "jnd=-1"), "positive number of JNDs"),
        (("encode", "a.png", "-o", "a.jnd", "--target", "aic=4"), "0.25 to 3"),
        (("encode", "a.png", "-o", "a.jnd", "--target", "aic=1", "--metric", "psnr-hvs"), "no level of psnr-hvs"),
        (
            ("encode", "a.png", "-o", "a.jnd", "--target", "psnr=30", "--metric", "psnr-hvs"),
            "only with a target in JNDs",
        ),
        (("encode", "a.png", "-o", "a.jnd", "--policy", "legal"), "inspection, medical, text"),
        (("encode", "a.png", "-o", "a.jnd", "--region-quality", "90"), "with --region"),
        (("encode", "a.png", "-o", "a.jnd", "--region", "none.png"), "No such file"),
        (("decode", "a.jnd", "-o", "a.xyz"), "suffixes .png"),
        (("decode", "a.jnd", "-o", "a.png"), "No such file"),
        (("decode", "a.png", "-o", "b.png"), "not a .jnd file"),
        (("info", "a.png"), "not a .jnd file"),
        (("info", "a.jnd"), "No such file"),
        (("info", "jnd-none"), "There is no model 'jnd-none'"),
        ((), "COMMAND"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save(tmp_path / "a.png")
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert tree(tmp_path) == ["a.png"]


def test_another_model_s_file_is_refused_until_it_is_named(tmp_path, tiny_model, monkeypatch, capsys):
    save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd") == 0
    monkeypatch.setattr(zoo, "models", lambda: {})
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / "b.png") == 2
    assert "--model" in capsys.readouterr().err
    assert run("decode", tmp_path / "a.jnd", "-o", tmp_path / "b.png", "--model", tiny_model) == 0


def test_info_tells_every_field(tmp_path, capsys, tiny_model):
    save(tmp_path / "a.png", icc_profile=SRGB)
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd") == 0
    capsys.readouterr()
    assert run("info", tmp_path / "a.jnd", "--json") == 0
    fields = json.loads(capsys.readouterr().out)
    data = (tmp_path / "a.jnd").read_bytes()
    assert fields == {**bitstream.probe(data), "bpp": round(8 * len(data) / (56 * 40), 4), "model_name": "jnd-tiny-1"}
    assert run("info", tmp_path / "a.jnd") == 0
    text = capsys.readouterr().out
    for field in bitstream.HEADER_FIELDS:
        assert f"\n{field.name} " in "\n" + text
    assert "icc" in text and "intact" in text


def test_info_of_models(tmp_path, monkeypatch, capsys, tiny_model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jnd-tiny").mkdir()  # Such as results of a comparison: the model is meant.
    for name in (tiny_model, "jnd-tiny", "jnd-tiny-1"):
        assert run("info", name, "--json") == 0
        model = json.loads(capsys.readouterr().out)
        assert (model["name"], model["config"]["latents"]) == ("jnd-tiny-1", 48)
    assert run("models", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"jnd-tiny-1": model}
    assert run("models") == 0
    assert capsys.readouterr().out.startswith(f"jnd-tiny-1  {model['hash']}")


def test_demo_reports_size_and_quality(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("demo", save(tmp_path / "a.png"), "--quality", "70") == 0
    size = (tmp_path / "demo.jnd").stat().st_size
    quality = psnr(photo(), np.asarray(Image.open(tmp_path / "demo.png")))
    out = capsys.readouterr().out
    assert f"demo.jnd  56x40  {size} bytes" in out and f"PSNR {quality:.2f} dB" in out


def test_the_demo_keeps_its_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "demo.png")
    before = (tmp_path / "demo.png").read_bytes()
    assert run("demo", "demo.png") == 2
    assert "rename it" in capsys.readouterr().err and (tmp_path / "demo.png").read_bytes() == before


def test_a_mask_with_opacity_is_refused_and_hidden_pixels_count_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clear = np.dstack([photo(), np.full(photo().shape[:2], 255, np.uint8)])
    clear[:20, :, 3] = 0
    Image.fromarray(clear).save("clear.png")
    Image.new("LA", (56, 40), (255, 9)).save("mask.png")
    assert run("encode", "clear.png", "-o", "a.jnd", "--region", "mask.png") == 2
    assert "opacity" in capsys.readouterr().err
    Image.new("L", (56, 40), 1).save("labels.png")
    assert run("encode", "clear.png", "-o", "a.jnd", "--region", "labels.png") == 2
    assert "nearly black" in capsys.readouterr().err
    values = []
    for noise in (0, 255):
        clear[:20, ::2, :3] = noise
        Image.fromarray(clear).save("clear.png")
        assert run("encode", "clear.png", "-o", "a.jnd", "--verify") == 0
        values.append(float(capsys.readouterr().out.split("PSNR ")[1].split()[0]))
    assert values[0] == pytest.approx(values[1], abs=1)


def test_transcoding_replaces_nothing_in_a_folder_unasked(tmp_path, tiny_model, capsys):
    (tmp_path / "in").mkdir()
    assert run("encode", save(tmp_path / "a.png"), "-o", tmp_path / "in/a.jnd") == 0
    (tmp_path / "in/readme.txt").write_text("x")
    command = ["transcode", tmp_path / "in", "-o", tmp_path / "out", "--coder", "constriction", "--model", tiny_model]
    assert run(*command) == 1
    assert "readme.txt" in capsys.readouterr().err
    assert run(*command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, "--overwrite") == 1


def test_the_demo_s_own_photo_is_there():
    from jnd_jax.images import read_image

    assert read_image(zoo.FOLDER / "chelsea.png").pixels.shape == (300, 451, 3)


def module(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "jnd_jax.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def test_info_imports_neither_jax_nor_pillow(tmp_path, tiny_model):
    save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.jnd") == 0
    code = (
        "import sys; from jnd_jax.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or str({'jax', 'flax', 'PIL', 'tensorflow', 'torch'} & set(sys.modules)))"
    )
    for name in (tmp_path / "a.jnd", tiny_model):
        done = subprocess.run([sys.executable, "-c", code, "info", name], capture_output=True, text=True, timeout=60)
        assert done.stderr.strip() == "set()"


def test_the_shell_sees_status_and_one_line(tmp_path, tiny_model):
    done = module("decode", tmp_path / "none.jnd", "-o", tmp_path / "a.png", "--model", tiny_model)
    assert done.returncode == 2
    assert done.stderr == f"jnd-jax: {tmp_path}/none.jnd: No such file or directory: {tmp_path}/none.jnd\n"
    assert module("--version").stdout.strip() == jnd_jax.__version__


def test_the_commands_of_other_modules_are_there():
    for command in ("eval", "abtest", "savings"):
        done = module(command, "--help")
        assert done.returncode == 0 and f"jnd-jax {command}" in done.stdout


def test_the_compile_cache_is_kept_where_the_user_says(tmp_path, tiny_model):
    save(tmp_path / "a.png")
    cache = tmp_path / "cache"
    # Without the tests' own limit: the command itself has all of it kept, however fast it compiles.
    env = {k: v for k, v in os.environ.items() if k != "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"}
    done = module(
        "encode",
        tmp_path / "a.png",
        "-o",
        tmp_path / "a.jnd",
        "--model",
        tiny_model,
        env={**env, "JAX_COMPILATION_CACHE_DIR": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    assert any(cache.iterdir())


def test_a_terminal_shows_a_bar_for_several_files(tmp_path, monkeypatch, capfd):
    files = [save(tmp_path / f"{i}.png") for i in range(2)]
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert run("encode", *files, "-o", tmp_path / "out") == 0
        terminal.flush()
        shown = b""
        while b"2/2" not in shown:  # a terminal hands out a few kilobytes at a time
            assert select.select([leader], [], [], 10)[0], shown
            shown += os.read(leader, 100000)
    os.close(leader)
