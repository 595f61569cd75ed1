from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from jnd_jax import cli, codecs, metrics
from jnd_jax.errors import JndError
from jnd_jax.jnd import targets

skimage_data = pytest.importorskip("skimage.data")
pytest.importorskip("psnr_hvsm")


@pytest.fixture(scope="module")
def cup() -> np.ndarray:
    return np.ascontiguousarray(skimage_data.coffee()[100:180, 200:296])


@pytest.fixture
def photos(tmp_path, cup):
    folder = tmp_path / "photos"
    (folder / "park").mkdir(parents=True)
    Image.fromarray(cup).save(folder / "cup.png")
    Image.fromarray(skimage_data.chelsea()[100:172, 150:214]).save(folder / "park" / "cat.jpg", quality=97)
    return folder


def table(folder):
    with (folder / "targets.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    "codec, metric, t", [("jpeg", "psnr-hvs", 1.0), ("jpeg", "ssimulacra2", 1.5), ("avif", "psnr-hvs", 1.0)]
)
def test_a_target_passes_and_one_quality_lower_does_not(codec, metric, t, cup):
    if metric == "ssimulacra2":
        pytest.importorskip("ssimulacra2")
    found = targets.search_target(cup, codecs.lookup(codec), metric, t)
    at = lambda quality: codecs.decode(codec, codecs.encode(codec, cup, quality))  # noqa: E731
    np.testing.assert_array_equal(found.pixels, at(found.quality))
    assert found.size == len(codecs.encode(codec, cup, found.quality))
    assert found.value == pytest.approx(metrics.measure(metric, cup, found.pixels))
    level = metrics.jnd_threshold(metric, t)
    assert metrics.margin(metric, found.value, level) >= 0
    assert metrics.margin(metric, metrics.measure(metric, cup, at(found.quality - 1)), level) < 0


def test_a_model_is_a_codec_too(tiny_model):
    codec = codecs.lookup(str(tiny_model))
    grey = np.full((64, 64, 3), 100, np.uint8)
    assert codec.name == "jnd-tiny-1" and codec.decode(codec.encode(grey, codec.qualities[-1])).shape == grey.shape


def test_the_command_writes_pairs_of_originals_and_targets(photos, tmp_path, cup, capsys):
    assert cli.main(["targets", str(photos), "-o", str(tmp_path / "set"), "--metric", "psnr-hvs"]) == 0
    assert sorted(path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.png")) == [
        "JND1/cup.png",
        "JND1/park-cat.png",
        "Ref/cup.png",
        "Ref/park-cat.png",
    ]
    np.testing.assert_array_equal(pixels(tmp_path / "set/Ref/cup.png"), cup)
    row = table(tmp_path / "set")["cup"]
    target = codecs.decode("jpeg", codecs.encode("jpeg", cup, int(row["quality"])))
    np.testing.assert_array_equal(pixels(tmp_path / "set/JND1/cup.png"), target)
    assert (row["codec"], row["metric"], row["jnd"]) == ("jpeg", "psnr-hvs", "1")
    assert float(row["value"]) == pytest.approx(metrics.measure("psnr-hvs", cup, target), abs=1e-4)
    assert int(row["bytes"]) == len(codecs.encode("jpeg", cup, int(row["quality"])))
    assert str(photos / "park/cat.jpg") in capsys.readouterr().out


def test_training_pairs_what_the_command_wrote(photos, tmp_path):
    from jnd_jax.data.cache import load_images, pair_by_name

    cli.main(["targets", str(photos), "-o", str(tmp_path / "set"), "--codec", "klt", "--metric", "psnr-hvs"])
    sets = [load_images(tmp_path / "set" / part, tmp_path / "cache") for part in ("Ref", "JND1")]
    reference, jnd = pair_by_name(*sets)
    assert len(reference) == 2
    for i in range(2):
        assert 0 < np.mean((reference[i].astype(float) - jnd[i]) ** 2) < 20


def test_a_second_run_makes_only_what_is_missing(photos, tmp_path, monkeypatch, capsys):
    command = ["targets", str(photos), "-o", str(tmp_path / "set"), "--metric", "psnr-hvs"]
    cli.main(command)
    first = table(tmp_path / "set")
    (tmp_path / "set/JND1/cup.png").unlink()
    kept = (tmp_path / "set/JND1/park-cat.png").stat().st_mtime_ns
    searched = []
    search = targets.search_target
    monkeypatch.setattr(targets, "search_target", lambda image, *rest: searched.append(image) or search(image, *rest))
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "1 of 2 images are done" in capsys.readouterr().out
    assert len(searched) == 1 and table(tmp_path / "set") == first
    assert (tmp_path / "set/JND1/cup.png").exists()
    assert (tmp_path / "set/JND1/park-cat.png").stat().st_mtime_ns == kept
    assert cli.main([*command, "--maps", "wu"]) == 0 and len(searched) == 1
    assert {path.name for path in (tmp_path / "set/maps").iterdir()} == {"cup.png", "park-cat.png"}


def test_a_map_is_eight_times_the_thresholds(tmp_path):
    (tmp_path / "grey").mkdir()
    Image.fromarray(np.full((16, 24, 3), 127, np.uint8)).save(tmp_path / "grey" / "plain.png")
    cli.main(
        [
            "targets",
            str(tmp_path / "grey"),
            "-o",
            str(tmp_path / "set"),
            "--codec",
            "klt",
            "--metric",
            "psnr-hvs",
            "--maps",
            "chou-li",
        ]
    )
    assert (pixels(tmp_path / "set/maps/plain.png") == 24).all()


def test_a_set_of_another_kind_is_not_added_to(photos, tmp_path, capsys):
    command = ["targets", str(photos), "-o", str(tmp_path / "set"), "--metric", "psnr-hvs"]
    cli.main([*command, "--codec", "klt"])
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "set").rglob("*"))
    assert cli.main([*command, "--codec", "jpeg"]) == 2
    assert "targets of klt at 1 JND by psnr-hvs" in capsys.readouterr().err
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "set").rglob("*"))


def test_failures_are_reported_and_the_others_done(photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(photos / "noise.png")
    assert cli.main(["targets", str(photos), "-o", str(tmp_path / "set"), "--metric", "psnr-hvs", "--jnd", "0.01"]) == 2
    errors = capsys.readouterr().err
    assert "broken.png" in errors and "noise.png: psnr-hvs 80.1 is out of reach" in errors
    (photos / "broken.png").unlink()
    Image.fromarray(noise[:40]).save(photos / "noise.png")
    assert (
        cli.main(["targets", str(photos), "-o", str(tmp_path / "other"), "--codec", "klt", "--metric", "psnr-hvs"]) == 0
    )
    assert set(table(tmp_path / "other")) == {"cup", "park-cat", "noise"}
    assert not list(tmp_path.rglob(".*.png*"))


def test_bad_commands_are_refused_before_any_work(photos, tmp_path, capsys):
    def error(*words):
        assert cli.main(["targets", str(photos), "-o", str(tmp_path / "set"), "--metric", "psnr-hvs", *words]) == 2
        assert not (tmp_path / "set").exists()
        return capsys.readouterr().err

    assert "positive" in error("--jnd", "0")
    assert "--jnd" in error("--codec", "klt", "--jnd", "2")
    assert "nobody" in error("--codec", "nobody")
    assert cli.main(["targets", str(photos), "-o", str(photos / "set")]) == 2
    assert "outside" in capsys.readouterr().err and not (photos / "set").exists()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / "cup.webp")
    assert "Rename one of" in error()


def test_klt_keeps_the_leading_components_of_luma(cup):
    """Against singular vectors, and the number of components from the formula."""
    blocks = (cup @ [0.299, 0.587, 0.114]).reshape(10, 8, 12, 8).swapaxes(1, 2).reshape(120, 64)
    components = np.linalg.svd(blocks)[2]
    share = np.cumsum(((blocks @ components.T) ** 2).sum(0))
    share = share / share[-1] / 0.99805
    weight = share**893.16 * np.exp(-(share**894.16))
    number = int(np.ceil((np.arange(1, 65) * weight).sum() / weight.sum()))
    luma = (blocks @ components[:number].T @ components[:number]).reshape(10, 12, 8, 8).swapaxes(1, 2).reshape(80, 96)

    jnd, kept = targets.klt(cup)
    assert kept == number
    inside = ((jnd > 0) & (jnd < 255)).all(-1)
    np.testing.assert_allclose((jnd @ [0.299, 0.587, 0.114])[inside], luma[inside], atol=0.51)


def test_klt_keeps_the_mean_of_blocks_that_are_alike():
    wave = np.kron(np.random.default_rng(0).choice([-1, 1], (8, 8)), np.cos(np.arange(8) * np.pi) * np.ones((8, 1)))
    image = np.repeat(np.rint(120 + 4 * wave)[..., None], 3, -1).astype(np.uint8)
    assert np.abs(targets.klt(image)[0].astype(int) - image).max() <= 5


def test_klt_changes_photos_a_little_and_in_luma_only(cup):
    jnd, kept = targets.klt(cup[:77, :91])
    change = jnd.astype(int) - cup[:77, :91]
    assert jnd.shape == (77, 91, 3) and jnd.dtype == np.uint8 and 2 <= kept < 40
    inside = (jnd > 0) & (jnd < 255)
    assert np.abs(np.diff(np.where(inside.all(-1, keepdims=True), change, 0), axis=-1)).max() <= 1
    assert 0.5 < np.mean(change**2) < 30
    plain = np.full((16, 16, 3), 90, np.uint8)
    np.testing.assert_array_equal(targets.klt(plain)[0], plain)
    np.testing.assert_array_equal(targets.klt(0 * plain)[0], 0 * plain)


def test_unreadable_images_are_named(tmp_path):
    with pytest.raises(JndError, match="lost.png"):
        targets.read_pixels(tmp_path / "lost.png")
