from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jnd_jax import codecs
from jnd_jax.errors import JndError
from jnd_jax.jnd import datasets, sur


def picture(seed: int, height: int = 24, width: int = 32) -> Image.Image:
    """A colour of its own for each seed, with a little texture."""
    random = np.random.default_rng(seed)
    return Image.fromarray((random.integers(40, 200, 3) + random.integers(0, 20, (height, width, 3))).astype(np.uint8))


def save(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def test_the_pictures_of_these_tests_are_told_apart():
    means = [np.asarray(picture(seed)).mean((0, 1)) for seed in range(11)]
    assert min(np.abs(a - b).mean() for i, a in enumerate(means) for b in means[:i]) > 12


@pytest.fixture
def mcl_jci(tmp_path):
    """Two sources, 09 and 10; the subjects' first JNDs 30 40 50 60, and 20 22 24 90."""
    root = tmp_path / "MCL-JCI"
    labels = {"09": "40 21 9\n60 30\n\n30\n50 20 10 5\n", "10": "22\n90\n20 7\n24 23 22\n"}
    (root / "JND_samples").mkdir(parents=True)
    for number, text in labels.items():
        (root / "JND_samples" / f"JND_image_{number}.txt").write_text(text)
        source, name = picture(int(number)), f"ImageJND_SRC{number}"
        save(root / "source_images" / "[BMP]" / f"{name}.bmp", source)
        for quality in range(1, 101):
            save(root / "distorted_image" / name / f"{name}_{quality:03d}.jpg", source, quality=quality)
    return root


def test_mcl_jci(mcl_jci):
    first, second = datasets.mcl_jci(mcl_jci)
    assert (first.name, first.codec, first.thresholds) == ("ImageJND_SRC09", "jpeg", (41, 61, 31, 51))
    assert first.levels == (50,) and second.levels == (24,)  # three of four see nothing from 51 and from 25 on
    assert sur.jnd_quality(first.thresholds, 0.75) == 51
    assert sur.jnd_quality(first.thresholds, 0.5) == 41
    assert [record.levels for record in datasets.mcl_jci(mcl_jci, share=0.5)] == [(40,), (22,)]
    for record in (first, second):
        reference, jnd = record.images()
        np.testing.assert_array_equal(reference, np.asarray(picture(int(record.name[-2:]))))
        assert 0 < np.abs(reference.astype(float) - jnd).mean() < 12  # of this source: sources differ by more


def test_the_example_of_the_documentation_writes_a_set_for_training(mcl_jci, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/jnd.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert [record.name for record in datasets.ref_jnd1(tmp_path / "set")] == ["ImageJND_SRC09", "ImageJND_SRC10"]
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["ImageJND_SRC09", "51.0"],
        ["ImageJND_SRC10", "25.0"],
    ]


def test_broken_parts_of_mcl_jci_are_named(mcl_jci, tmp_path):
    lost = mcl_jci / "distorted_image/ImageJND_SRC10/ImageJND_SRC10_024.jpg"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(JndError, match="ImageJND_SRC10_024.jpg"):
        datasets.mcl_jci(mcl_jci)
    lost.write_bytes(content[:300])
    with pytest.raises(JndError, match="ImageJND_SRC10_024.jpg"):
        datasets.mcl_jci(mcl_jci)[1].images()
    save(lost, picture(10, 24, 40))
    with pytest.raises(JndError, match="ImageJND_SRC10_024.jpg: it is 40x24, .*SRC10.bmp 32x24"):
        datasets.mcl_jci(mcl_jci)[1].images()
    for text, complaint in (("40 50\n", "line 1"), ("40 x\n", "'x'"), ("130\n", "line 1"), ("\n", "no subject")):
        (mcl_jci / "JND_samples/JND_image_09.txt").write_text(text)
        with pytest.raises(JndError, match=f"JND_image_09.txt.*{complaint}"):
            datasets.mcl_jci(mcl_jci)
    with pytest.raises(JndError, match="JND_samples"):
        datasets.mcl_jci(tmp_path)


@pytest.fixture
def konjnd(tmp_path):
    """SRC0001 in JPEG, levels falling in quality; SRC0002 in BPG. Rows in another order than the files."""
    root = tmp_path / "KonJND-1k"
    sources = {1: picture(1), 2: picture(2)}
    for number, source in sources.items():
        save(root / "source_image" / f"SRC000{number}.png", source)
    for level in range(1, 101):
        save(root / "jpeg" / f"SRC0001_JPEG_{level:03d}.jpg", sources[1], quality=101 - level, subsampling=0)
    for level in range(1, 52):
        save(root / "bpg" / f"SRC0002_BPG_{level:03d}.png", sources[2].quantize(256 - 4 * level).convert("RGB"))
    konjnd_labels(
        root, [["SRC0002.png", "BPG", 2, 30.5, 0.5, "[30, 31]"], ["SRC0001.png", "JPEG", 3, 60.0, 8.2, "[50, 60, 70]"]]
    )
    return root


def konjnd_labels(root, rows):
    with (root / "subjective_ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["image_id", "Compression type", "No. of ratings", "mean", "std", "ratings"], *rows]
        )


def test_konjnd_1k(konjnd):
    bpg, jpeg = datasets.konjnd_1k(konjnd)
    assert (bpg.name, bpg.codec, bpg.levels, bpg.jnd.name) == ("SRC0002", "bpg", (31,), "SRC0002_BPG_031.png")
    assert (jpeg.name, jpeg.codec, jpeg.levels, jpeg.jnd.name) == ("SRC0001", "jpeg", (60,), "SRC0001_JPEG_060.jpg")
    assert jpeg.thresholds == (-49, -59, -69)
    assert sur.jnd_quality(jpeg.thresholds, 1 / 3) == -69
    reference, jnd = jpeg.images()
    np.testing.assert_array_equal(reference, np.asarray(picture(1)))
    assert 0 < np.abs(reference.astype(float) - jnd).mean() < 12


def test_the_direction_of_konjnd_levels_is_seen_in_its_images(konjnd):
    for level in range(1, 101):
        save(konjnd / "jpeg" / f"SRC0001_JPEG_{level:03d}.jpg", picture(1), quality=level, subsampling=0)
    assert datasets.konjnd_1k(konjnd)[1].thresholds == (51, 61, 71)


def test_contradictions_in_konjnd_are_named(konjnd):
    good = ["SRC0001.png", "JPEG", 2, 60, 8, "[50, 70]"]
    for changes, complaint in (
        ({2: 3}, "number and mean"),
        ({3: 55}, "number and mean"),
        ({1: "WebP"}, "WebP"),
        ({5: "50, 70"}, "no list"),
        ({0: "SRC0009.png"}, "SRC0009.png"),
        ({2: 0, 5: "[]"}, "number and mean"),
    ):
        row = [changes.get(i, value) for i, value in enumerate(good)]
        konjnd_labels(konjnd, [row])
        with pytest.raises(JndError, match=complaint):
            datasets.konjnd_1k(konjnd)
    konjnd_labels(konjnd, [good, good])
    with pytest.raises(JndError, match="line 3.*SRC0001 has a row already"):
        datasets.konjnd_1k(konjnd)
    konjnd_labels(konjnd, [good[:4]])
    with pytest.raises(JndError, match="line 2"):
        datasets.konjnd_1k(konjnd)
    (konjnd / "subjective_ratings.csv").write_text("image_id,mean\n")
    with pytest.raises(JndError, match="Compression type"):
        datasets.konjnd_1k(konjnd)


def write_clip(path: Path, quantisation: int, clip: int, frames: int = 3) -> None:
    """A stream of plain frames, number n of brightness 60 + 30 n + clip."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"qp": str(quantisation), "bf": "0"}
        for number in range(frames):
            grey = np.full((48, 64, 3), 60 + 30 * number + clip, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode())


@pytest.fixture
def videoset(tmp_path):
    root = tmp_path / "VideoSet"
    for clip in (1, 2):
        for parameter in (0, 25, 27):
            name = f"videoSRC00{clip}_64x48_24_qp_{parameter:02d}.264"
            write_clip(root / f"videoSRC00{clip}" / name, parameter, clip)
    labels = tmp_path / "jnd.csv"
    header = "anchor,jnd,mean,normality,samples,samples_no,sequence_index,standard_deviation"
    labels.write_text(f'{header}\n0,1,26.5,1,"[25, 28]",2,2,1.5\n27,2,31,1,"[31]",1,2,0\n0,1,25.0,1,"24 26",2,1,1\n')
    return root, labels


def test_videoset(videoset):
    root, labels = videoset
    records = datasets.videoset(root, labels, (64, 48), frames=(0, 2))
    assert [(r.name, r.levels, r.jnd.name[-9:]) for r in records] == [
        ("videoSRC002-0000", (27,), "qp_27.264"),
        ("videoSRC002-0002", (27,), "qp_27.264"),
        ("videoSRC001-0000", (25,), "qp_25.264"),
        ("videoSRC001-0002", (25,), "qp_25.264"),
    ]
    assert records[0].thresholds == (-24, -27) and records[0].codec == "h264"
    for record, brightness in zip(records, (62, 122, 61, 121)):
        for pixels in record.images():
            assert pixels.shape == (48, 64, 3) and pixels.mean() == pytest.approx(brightness, abs=2)


def test_missing_parts_of_videoset_are_named(videoset):
    root, labels = videoset
    with pytest.raises(JndError, match="earlier frame than 3"):
        datasets.videoset(root, labels, (64, 48), frames=(3,))[0].images()
    clip = root / "videoSRC001/videoSRC001_64x48_24_qp_25.264"
    clip.write_bytes(b"nothing")
    with pytest.raises(JndError, match="qp_25.264"):
        datasets.videoset(root, labels, (64, 48))[1].images()
    clip.unlink()
    with pytest.raises(JndError, match="videoSRC001_64x48_.*qp_25.264.*line 4"):
        datasets.videoset(root, labels, (64, 48))
    labels.write_text(labels.read_text().replace('"[25, 28]",2', '"[25, 28]",3'))
    with pytest.raises(JndError, match="line 2.*2 samples, not 3"):
        datasets.videoset(root, labels, (64, 48))


def test_mtl_jnd(tmp_path):
    for part, text in (("train", "JND1 JND2 JND3\n48 31 20\n60\t40 22\n"), ("test", "35 24 17\n")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "JND-Levels.txt").write_text(text)
    found = datasets.mtl_jnd(tmp_path)
    assert {part: [record.levels for record in records] for part, records in found.items()} == {
        "train": [(48, 31, 20), (60, 40, 22)],
        "test": [(35, 24, 17)],
    }
    assert found["train"][1].name == "train-0002"
    with pytest.raises(JndError, match="without images"):
        found["test"][0].images()
    (tmp_path / "test" / "JND-Levels.txt").write_text("35 24\n")
    with pytest.raises(JndError, match="test.*row 1"):
        datasets.mtl_jnd(tmp_path)
    with pytest.raises(JndError, match="JND-Levels.txt"):
        datasets.mtl_jnd(tmp_path / "train")


def test_ref_jnd1_pairs_by_name(tmp_path):
    for seed, name in enumerate(("b", "a", "c")):
        save(tmp_path / "Ref" / f"{name}.png", picture(seed))
        save(tmp_path / "JND1" / f"{name}.jpg", picture(seed), quality=80)
    records = datasets.ref_jnd1(tmp_path)
    assert [record.name for record in records] == ["a", "b", "c"]
    for record in records:
        reference, jnd = record.images()
        assert 0 < np.abs(reference.astype(float) - jnd).mean() < 12
    (tmp_path / "JND1" / "a.jpg").unlink()
    with pytest.raises(JndError, match="Remove a from"):
        datasets.ref_jnd1(tmp_path)


def answers(path, rows, header=("image", "codec", "subject", "quality")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_the_csv_of_an_own_test(tmp_path):
    for name in ("tree", "boat"):
        save(tmp_path / "photos" / f"{name}.png", picture(len(name), 48, 48))
    answers(
        tmp_path / "jnd_subjects.csv",
        [["tree", "jpeg", "p", 30], ["boat", "jpeg", "p", 70], ["tree", "jpeg", "q", 50], ["boat", "jpeg", "q", ""]],
    )
    tree, boat = datasets.own_test(tmp_path / "jnd_subjects.csv", tmp_path / "photos", share=0.5)
    assert (tree.name, tree.thresholds, tree.levels) == ("tree", (30, 50), (30,))
    assert (boat.name, boat.thresholds, boat.levels) == ("boat", (70, math.inf), (70,))
    reference, jnd = tree.images()
    np.testing.assert_array_equal(reference, np.asarray(picture(4, 48, 48)))
    np.testing.assert_array_equal(jnd, codecs.decode("jpeg", codecs.encode("jpeg", reference, 30)))
    with pytest.raises(JndError, match="boat.*75 %"):
        datasets.own_test(tmp_path / "jnd_subjects.csv", tmp_path / "photos")
    answers(
        tmp_path / "jnd.csv",
        [["tree", "jpeg", 9, 30, 50], ["tree", "webp", 9, 20, 40]],
        ("image", "codec", "subjects", "sur50", "sur75"),
    )
    records = datasets.own_test(tmp_path / "jnd.csv", tmp_path / "photos")
    assert [(record.name, record.levels) for record in records] == [("tree-jpeg", (50,)), ("tree-webp", (40,))]
    answers(tmp_path / "jnd_subjects.csv", [["moon", "jpeg", "p", 30]])
    with pytest.raises(JndError, match="moon"):
        datasets.own_test(tmp_path / "jnd_subjects.csv", tmp_path / "photos")
    answers(tmp_path / "jnd_subjects.csv", [["tree", "jpeg", "p", 30], ["tree", "jpeg", "p", 40]])
    with pytest.raises(JndError, match="line 3"):
        datasets.own_test(tmp_path / "jnd_subjects.csv", tmp_path / "photos")


def test_the_csv_is_the_one_that_abtest_writes(tmp_path):
    from jnd_jax.evaluation.abtest import analysis
    from jnd_jax.evaluation.abtest.answers import Subjects

    save(tmp_path / "photos" / "tree.png", picture(4, 48, 48))
    flicker = lambda quality, choice: {
        "kind": "flicker",
        "image": "tree",
        "codec": "jpeg",
        "quality": quality,  # noqa: E731
        "choice": choice,
        "expected": None,
    }
    records = [
        {"subject": f"s{i}", "answers": [flicker(q, "yes" if q < threshold else "no") for q in (20, 40, 60, 80)]}
        for i, threshold in enumerate((40, 60, 60, 80))
    ]
    analysis.write(analysis.analyse(Subjects(records, {})), tmp_path, "command")
    for file in ("jnd_subjects.csv", "jnd.csv"):
        (record,) = datasets.own_test(tmp_path / file, tmp_path / "photos")
        assert record.levels == (50,)  # a threshold lies between the last quality seen and the first not seen
    assert datasets.own_test(tmp_path / "jnd_subjects.csv", tmp_path / "photos")[0].thresholds == (30.2, 50, 50, 69.9)


REAL = Path(os.environ.get("JND_JAX_DATA") or "nowhere")


@pytest.mark.skipif(not (REAL / "MCL-JCI").is_dir(), reason="JND_JAX_DATA holds no MCL-JCI")
def test_real_mcl_jci():
    """Mean first JND at 75 % of the subjects: quality factor 33 by the published labels."""
    records = datasets.mcl_jci(REAL / "MCL-JCI")
    assert len(records) == 50
    assert np.mean([record.levels[0] for record in records]) == pytest.approx(33.4, abs=2)


@pytest.mark.skipif(not (REAL / "KonJND-1k").is_dir(), reason="JND_JAX_DATA holds no KonJND-1k")
def test_real_konjnd_1k():
    """Mean PSNR of luma at the JND: 36.7 dB for JPEG, 39.6 for BPG (CID22 paper, table 4)."""
    from jnd_jax import metrics

    records = datasets.konjnd_1k(REAL / "KonJND-1k")
    assert len(records) == 1008
    for codec, expected in (("jpeg", 36.7), ("bpg", 39.6)):
        some = [record for record in records if record.codec == codec][::10]
        assert np.mean([metrics.measure("psnr-y", *record.images()) for record in some]) == pytest.approx(
            expected, abs=1
        )
