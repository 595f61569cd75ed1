"""Readers of data sets of people's just-noticeable differences: MCL-JCI, KonJND-1k, VideoSet, MTL_JND, own tests.

Each gives a list of `Record`s. Labels and images are joined by name; a missing or contradictory part is an error that
names the file, never a pair left out in silence.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnd_jax import codecs
from jnd_jax.errors import JndError
from jnd_jax.jnd import sur
from jnd_jax.jnd.targets import named_images, read_pixels


@dataclass(frozen=True)
class Record:
    """One source and what people said of its compressed versions.

    Attributes:
        name: of the source, unique in its set.
        codec: jpeg, bpg, h264 or what an own test used; "" if the set does not say.
        reference: file of the original, None for a set of labels alone.
        jnd: file of the just-noticeable version, None where it is to be coded at `levels[0]`.
        levels: in the codec's scale, where the first (second, ...) just-noticeable difference lies.
        thresholds: one quality a subject, as `jnd_jax.jnd.sur` takes them: where higher levels are worse, negated.
        frame: of the files, where these are videos.
    """

    name: str
    codec: str
    reference: Path | None
    jnd: Path | None
    levels: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    frame: int = 0

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The original and its just-noticeable version, both (H, W, 3) uint8.

        Raises:
            JndError: a file cannot be read, the two differ in size, or the record has no images.
        """
        if self.reference is None:
            raise JndError(f"{self.name} is a label without images: pair it with them by name.")
        reference = _pixels(self.reference, self.frame)
        if self.jnd is None:
            codec = codecs.lookup(self.codec)
            return reference, codec.decode(codec.encode(reference, codecs.at_least(codec, self.levels[0])))
        jnd = _pixels(self.jnd, self.frame)
        if jnd.shape != reference.shape:
            raise JndError(
                f"Replace {self.jnd}: it is {jnd.shape[1]}x{jnd.shape[0]}, its original {self.reference} "
                f"{reference.shape[1]}x{reference.shape[0]}."
            )
        return reference, jnd


def _pixels(path: Path, frame: int) -> np.ndarray:
    return read_frame(path, frame) if path.suffix == ".264" else read_pixels(path)


def read_frame(path: Path, frame: int) -> np.ndarray:
    """(H, W, 3) uint8 of one frame of a video, counted from 0.

    Raises:
        JndError: PyAV is not installed, or the file cannot be decoded or is shorter.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise JndError("Install PyAV with: pip install 'jnd-jax[video]' to read videos.") from error
    try:
        with av.open(str(path)) as video:
            for number, picture in enumerate(video.decode(video=0)):
                if number == frame:
                    return picture.to_ndarray(format="rgb24")
    except (FFmpegError, OSError, IndexError) as error:
        raise JndError(f"Copy or download {path} again: it cannot be decoded ({error}).") from error
    raise JndError(f"Choose an earlier frame than {frame}: {path} is shorter.")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise JndError(f"Put {path} back: the data set's labels name it.")
    return path


def _text(path: Path) -> io.StringIO:
    try:
        return io.StringIO(_existing(path).read_text(encoding="utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise JndError(f"The file {path} is no text: give a CSV file of labels.") from error


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with "FILE, line N" for messages; JndError if it lacks one of `columns`."""
    with _text(path) as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        lacking = [column for column in columns if column not in reader.fieldnames]
        if lacking:
            raise JndError(f"Give {path} the column {', '.join(lacking)}: it has {', '.join(reader.fieldnames)}.")
        for row in _parsed(reader, path):
            where = f"{path}, line {reader.line_num}"
            if None in row.values() or None in row:
                raise JndError(f"Repair {where}: it has not as many fields as the heading.")
            yield where, row


def _parsed(reader: csv.DictReader, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise JndError(f"Repair {path}, line {reader.line_num}: {error}.") from error


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise JndError(f"Repair {where}: {text!r} is no number.")
    return value


def _nearest(level: float) -> int:
    return math.floor(level + 0.5)


def mcl_jci(root: str | Path, share: float = 0.75) -> list[Record]:
    """MCL-JCI: 50 sources in 1920x1080, JPEG quality factors 1 to 100, side by side.

    A subject's first JND is the highest quality factor that this subject tells from the original, so that one above it
    is the threshold. The just-noticeable image is one factor below the lowest that satisfies `share` of the subjects.

    Args:
        root: folder with source_images/[BMP], distorted_image and JND_samples.
        share: of subjects; a level at .5 is lower than one at .75, and the published aggregate lies higher than both.

    Raises:
        JndError: an image is missing, or a file of labels is missing or broken.
    """
    root = Path(root)
    files = sorted((root / "JND_samples").glob("JND_image_*.txt"))
    if not files:
        raise JndError(f"Give the folder of MCL-JCI: {root / 'JND_samples'} holds no JND_image_01.txt.")
    records = []
    for file in files:
        number = file.stem.removeprefix("JND_image_")
        name = f"ImageJND_SRC{number}"
        firsts = []
        for line, text in enumerate(file.read_text().splitlines(), 1):
            where = f"{file}, line {line}"
            factors = [_number(word, where) for word in re.split(r"[\s,;]+", text.strip()) if word]
            if factors != sorted(factors, reverse=True) or not all(1 <= factor <= 100 for factor in factors):
                raise JndError(f"Repair {where}: it has to hold falling quality factors of 1 to 100.")
            firsts += factors[:1]
        if not firsts:
            raise JndError(f"Download {file} again: it holds no subject.")
        thresholds = tuple(first + 1 for first in firsts)
        level = _nearest(sur.jnd_quality(thresholds, share)) - 1
        records.append(
            Record(
                name,
                "jpeg",
                _existing(root / "source_images" / "[BMP]" / f"{name}.bmp"),
                _existing(root / "distorted_image" / name / f"{name}_{level:03d}.jpg"),
                (level,),
                thresholds,
            )
        )
    return records


def _higher_is_worse(reference: Path, level_file: Callable[[int], Path], last: int) -> bool:
    """Whether the version at level `last` is further from the original than the one at level 1."""
    original = read_pixels(reference).astype(float)
    first, final = (np.mean((read_pixels(_existing(level_file(level))) - original) ** 2) for level in (1, last))
    if first == final:
        raise JndError(f"Download {level_file(1)} and {level_file(last)} again: they differ equally from {reference}.")
    return bool(final > first)


def konjnd_1k(root: str | Path) -> list[Record]:
    """KonJND-1k: 1008 sources in 640x480, half in JPEG (levels 1 to 100), half in BPG (1 to 51), by flicker.

    The just-noticeable image is at the rounded mean of the ratings; a subject's threshold is one level better than the
    rating. Whether levels rise or fall with quality is not documented: the images of each codec's first source tell.

    Args:
        root: folder with source_image, jpeg, bpg and subjective_ratings.csv.

    Raises:
        JndError: an image is missing, or a row contradicts itself.
    """
    root = Path(root)
    columns = ("image_id", "Compression type", "No. of ratings", "mean", "ratings")
    kinds = {"JPEG": ("jpg", 100), "BPG": ("png", 51)}
    worse: dict[str, bool] = {}
    records: dict[str, Record] = {}
    for where, row in _rows(root / "subjective_ratings.csv", columns):
        name, kind = Path(row["image_id"]).stem, row["Compression type"].strip()
        if kind not in kinds or name in records:
            raise JndError(f"Repair {where}: {kind!r} is neither JPEG nor BPG, or {name} has a row already.")
        suffix, last = kinds[kind]
        try:
            ratings = [float(rating) for rating in json.loads(row["ratings"])]
        except (ValueError, TypeError) as error:
            raise JndError(f"Repair {where}: its ratings are no list of numbers.") from error
        mean = _number(row["mean"], where)
        if not ratings or len(ratings) != _number(row["No. of ratings"], where) or abs(np.mean(ratings) - mean) > 0.05:
            raise JndError(f"Repair {where}: its ratings do not have the number and mean that it says.")
        level_file = lambda level: root / kind.lower() / f"{name}_{kind}_{level:03d}.{suffix}"
        reference, level = _existing(root / "source_image" / f"{name}.png"), _nearest(mean)
        if kind not in worse:
            worse[kind] = _higher_is_worse(reference, level_file, last)
        thresholds = tuple(1 - rating if worse[kind] else 1 + rating for rating in ratings)
        records[name] = Record(name, kind.lower(), reference, _existing(level_file(level)), (level,), thresholds)
    return list(records.values())


def videoset(
    root: str | Path, labels: str | Path, resolution: tuple[int, int] = (1280, 720), frames: Sequence[int] = (0,)
) -> list[Record]:
    """VideoSet: 220 clips, H.264 at quantisation parameters 0 to 51, of which 0 is the reference.

    The just-noticeable version is at the rounded mean of the first JND's samples. A subject's threshold is one
    parameter below the sample, negated.

    Args:
        root: folder with videoSRC001_1280x720_30_qp_00.264, ..., at any depth.
        labels: the CSV of this resolution.
        resolution: width and height.
        frames: which frames of each clip become records, counted from 0; PyAV decodes them when they are asked for.

    Raises:
        JndError: a video is missing or there are two of it, or a row is broken.
    """
    width, height = resolution
    pattern = re.compile(rf"videoSRC(\d+)_{width}x{height}_\d+_qp_(\d+)\.264")
    videos: dict[tuple[int, int], Path] = {}
    for path in sorted(Path(root).rglob("*.264")):
        if match := pattern.fullmatch(path.name):
            key = int(match[1]), int(match[2])
            if key in videos:
                raise JndError(f"Remove one of {videos[key]} and {path}: they are the same version of a clip.")
            videos[key] = path
    records = []
    for where, row in _rows(Path(labels), ("jnd", "mean", "samples", "samples_no", "sequence_index")):
        if _number(row["jnd"], where) != 1:
            continue
        clip, level = int(_number(row["sequence_index"], where)), _nearest(_number(row["mean"], where))
        samples = [float(word) for word in re.findall(r"\d+(?:\.\d+)?", row["samples"])]
        if len(samples) != _number(row["samples_no"], where):
            raise JndError(f"Repair {where}: it has {len(samples)} samples, not {row['samples_no']}.")
        for parameter in (0, level):
            if (clip, parameter) not in videos:
                raise JndError(
                    f"Put videoSRC{clip:03d}_{width}x{height}_*_qp_{parameter:02d}.264 into {root}: {where} needs it."
                )
        records += [
            Record(
                f"videoSRC{clip:03d}-{frame:04d}",
                "h264",
                videos[clip, 0],
                videos[clip, level],
                (level,),
                tuple(1 - sample for sample in samples),
                frame,
            )
            for frame in frames
        ]
    return records


def mtl_jnd(root: str | Path) -> dict[str, list[Record]]:
    """Labels in the form of MTL_JND: {train,valid,test}/JND-Levels.txt with a row JND1 JND2 JND3 an image.

    The rows have no names, only numbers: records are named "train-0001", ... and have no images.

    Raises:
        JndError: none of the three files is there, or a row is broken.
    """
    found = {
        part: file for part in ("train", "valid", "test") if (file := Path(root) / part / "JND-Levels.txt").is_file()
    }
    if not found:
        raise JndError(f"Give the folder of the labels: {root} holds no train/JND-Levels.txt.")
    records = {}
    for part, file in found.items():
        records[part] = []
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
        if lines and not lines[0][0][0].isdigit():
            lines = lines[1:]
        for row, words in enumerate(lines, 1):
            where = f"{file}, row {row}"
            if len(words) != 3:
                raise JndError(f"Repair {where}: it has to hold JND1 JND2 JND3.")
            levels = tuple(_number(word, where) for word in words)
            records[part].append(Record(f"{part}-{row:04d}", "", None, None, levels))
    return records


def ref_jnd1(root: str | Path) -> list[Record]:
    """Pairs in the layout Ref/name.png, JND1/name.png, such as `jnd-jax targets` writes.

    Raises:
        JndError: a name is in one of the two folders only.
    """
    references, versions = (named_images(Path(root) / part) for part in ("Ref", "JND1"))
    if alone := sorted(references.keys() ^ versions.keys()):
        raise JndError(
            f"Remove {alone[0]} from {root}, or add what is missing: {len(alone)} names are in only one of Ref and JND1."
        )
    return [Record(name, "", reference, versions[name]) for name, reference in references.items()]


class Need(NamedTuple):
    """The quality that people need of one codec on one image.

    Attributes:
        quality: the lowest that satisfies the share asked for; infinite if none does.
        subjects: number of people who told it.
        thresholds: what each of them needs, as `Record.thresholds`; empty where the file has only shares.
    """

    quality: float
    subjects: int
    thresholds: tuple[float, ...]


def own_needs(labels: str | Path, share: float = 0.75) -> dict[tuple[str, str], Need]:
    """What `jnd-jax abtest analyse` found in a flicker test, by image and codec.

    Args:
        labels: jnd_subjects.csv (a row a subject), or jnd.csv (.5 and .75 only, without thresholds).
        share: of subjects.

    Raises:
        JndError: a column is missing, a row is broken or is there twice.
    """
    needs: dict[tuple[str, str], Need] = {}
    answers: dict[tuple[str, str], dict[str, float]] = {}
    column = f"sur{100 * share:g}"
    with _text(Path(labels)) as file:
        single = "subject" in file.readline().strip().split(",")
    for where, row in _rows(
        Path(labels), ("image", "codec", *(("subject", "quality") if single else ("subjects", column)))
    ):
        key, text = (row["image"], row["codec"]), row["quality" if single else column]
        quality = _number(text, where) if text else math.inf
        if key in needs or row.get("subject") in answers.get(key, ()):
            raise JndError(f"Repair {where}: {row['image']} has such a row already.")
        if single:
            answers.setdefault(key, {})[row["subject"]] = quality
        else:
            needs[key] = Need(quality, int(_number(row["subjects"], where)), ())
    for key, by_subject in answers.items():
        thresholds = tuple(by_subject.values())
        needs[key] = Need(sur.jnd_quality(thresholds, share), len(thresholds), thresholds)
    return needs


def own_test(labels: str | Path, images: str | Path, share: float = 0.75) -> list[Record]:
    """An own flicker test as `own_needs` reads it, joined with its images.

    The version of a record is its original coded at the lowest quality that satisfies `share` of the subjects.

    Args:
        labels: as for `own_needs`.
        images: folder of the originals.
        share: of subjects.

    Raises:
        JndError: as `own_needs`; an original is missing, or no quality satisfies so many subjects.
    """
    originals, needs = named_images(Path(images)), own_needs(labels, share)
    codecs = Counter(name for name, _ in needs)
    records = []
    for (name, codec), need in needs.items():
        if name not in originals:
            raise JndError(f"Put the original of {name} into {images}: {labels} names it.")
        if math.isinf(need.quality):
            raise JndError(
                f"Leave {name} out of {labels}, or choose a smaller share: no quality of {codec} satisfies "
                f"{100 * share:g} % of its subjects."
            )
        records.append(
            Record(
                f"{name}-{codec}" if codecs[name] > 1 else name,
                codec,
                originals[name],
                None,
                (need.quality,),
                need.thresholds,
            )
        )
    return records
