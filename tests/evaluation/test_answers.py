from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench import abtest_copies
from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import analysis, answers


def check(right: bool, kind: str = "pair", expected: str = "left", ms: float = 1500) -> dict:
    other = {"left": "right", "no": "yes", "yes": "no"}[expected]
    choice = expected if right else other
    if kind == "flicker":
        trial = {"kind": kind, "image": "i", "codec": "webp", "quality": 50}
    else:
        trial = {"kind": kind, "image": "i", "left": "i|original", "right": "i|check"}
    return trial | {"choice": choice, "expected": expected, "ms": ms}


def pair(choice: str, image: str = "i", ms: float = 1500) -> dict:
    sides = {"left": f"{image}|a", "right": f"{image}|b"}
    return {"kind": "pair", "image": image, **sides, "choice": choice, "expected": None, "ms": ms}


SIDES = [pair("left"), pair("right")] * 10


def test_screening():
    assert answers.screen([check(True)] * 8 + SIDES) is None
    assert answers.screen([check(True)] * 7 + [check(False)] + SIDES) is None
    assert "6 of 8" in answers.screen([check(True)] * 6 + [check(False)] * 2 + SIDES)
    assert answers.screen([check(True)] * 3 + SIDES) is None
    assert "2 of 3" in answers.screen([check(True)] * 2 + [check(False)] + SIDES)
    assert "one side" in answers.screen([check(True)] * 8 + [pair("left")] * 20)


def test_one_key_is_caught_in_the_flicker_part_alone():
    always_no = [check(True, "flicker", "no"), check(False, "flicker", "yes")] * 4
    assert "4 of 8" in answers.screen([check(True)] * 8 + SIDES + always_no)
    attentive = [check(True, "flicker", "no"), check(True, "flicker", "yes")] * 4
    assert answers.screen([check(True)] * 8 + SIDES + attentive) is None


def test_times_below_human_are_caught():
    fast = [pair(choice, ms=90) for choice in ("left", "right")] * 10
    assert "times below human" in answers.screen([check(True, ms=90)] * 8 + fast)


def test_guessers_are_mostly_screened_out():
    random = np.random.default_rng(0)
    kept = sum(answers.screen([check(bool(b)) for b in random.integers(0, 2, 8)]) is None for _ in range(2000))
    assert kept / 2000 < 0.05


def record(number: int, *more: Any, **changes: Any) -> dict:
    """Answers in an order and at times of this subject's own."""
    random = np.random.default_rng(number)
    answers: list[Any] = [check(True)] * 8 + list(more)
    own = [answers[place] for place in random.permutation(len(answers))]
    own = [answer | {"ms": answer["ms"] * random.uniform(0.5, 2)} for answer in own]
    return {"test": "t", "subject": f"{number:016x}", "answers": own, **changes}


def write(folder, *records: dict) -> None:
    for number, content in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(content))


HOSTILE = {
    "a list": "[]",
    "no JSON": "{",
    "no number": json.dumps(record(1, subject="../../etc/passwd")),
    "answers of a wrong kind": json.dumps(record(2, answers="left")),
    "an answer that is no answer": json.dumps(record(3, answers=[7])),
    "a kind that is a list": json.dumps(record(4, {**pair("left"), "kind": ["pair"]})),
    "a third side": json.dumps(record(5, {**pair("left"), "choice": "both"})),
    "garbage as the right answer": json.dumps(record(6, {**pair("left"), "choice": "x", "expected": "x"})),
    "a quality that is not a number": json.dumps(record(7, {**check(True, "flicker", "no"), "quality": "NaN"})),
    "an infinite quality": json.dumps(record(8, {**check(True, "flicker", "no"), "quality": float("inf")})),
    "a time before the question": json.dumps(record(9, pair("left", ms=-5))),
    "a picture of another image": json.dumps(record(10, {**pair("left"), "left": "j|a"})),
    "a picture against itself": json.dumps(record(11, {**pair("left"), "right": "i|a"})),
    "a missing side": json.dumps(record(12, {k: v for k, v in pair("left").items() if k != "right"})),
    "half a character": json.dumps(record(13, *SIDES, device="\ud800")),
    "very deep": "[" * 100_000,
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_named_and_does_not_count(content, tmp_path):
    (tmp_path / "bad.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(JndError, match="damaged"):
        answers.read(tmp_path)
    (tmp_path / "good.json").write_text(json.dumps(record(20, *SIDES)))
    found = answers.read(tmp_path)
    assert len(found.kept) == 1 and found.excluded["bad.json"].startswith("damaged: ")


def test_copies_of_one_person_are_one_person(tmp_path):
    """The same file twelve times, under its own and under eleven other numbers."""
    copies = [record(1, *SIDES) | {"subject": f"{number:016x}"} for number in range(1, 13)]
    write(tmp_path, *copies, record(1, *SIDES[:4]))
    found = answers.read(tmp_path)
    assert len(found.kept) == 1 and len(found.kept[0]["answers"]) == 28
    assert sum("a copy of" in reason for reason in found.excluded.values()) == 11


@pytest.mark.parametrize("jitter, shuffled", [(0.05, True), (0.5, False)], ids=["the times", "the order"])
def test_changed_copies_of_one_person_are_one_person(jitter, shuffled, tmp_path):
    """Each case leaves but one sign: times that nobody repeats, or the random order."""
    random = np.random.default_rng(0)
    honest = abtest_copies.people(24, random)
    copied = abtest_copies.forged(honest[0], 12, random, jitter=jitter, shuffled=shuffled)
    for content in [*honest, *copied]:
        (tmp_path / f"{content['subject']}.json").write_text(json.dumps(content))
    result = analysis.analyse(answers.read(tmp_path))
    assert result["subjects"] == 24 and set(result["excluded"]) == {content["subject"] for content in copied}
    assert all(reason.startswith(f"a copy of {honest[0]['subject']}: ") for reason in result["excluded"].values())


@pytest.mark.parametrize("seconds, clock", [(3.0, 1), (0.4, 1), (0.4, 100)], ids=["slow", "fast", "a coarse clock"])
def test_people_who_think_alike_are_no_copies(seconds, clock, tmp_path):
    """95 % of their answers agree, and their times scatter less than people's do."""
    people = abtest_copies.people(24, np.random.default_rng(1), scatter=0.2, seconds=seconds, clock=clock)
    write(tmp_path, *people)
    result = analysis.analyse(answers.read(tmp_path))
    assert result["subjects"] == 24 and result["excluded"] == {}


def test_visitors_are_not_people_who_did_not_look(tmp_path):
    write(tmp_path, record(1, *SIDES), record(2, answers=[]))
    found = answers.read(tmp_path)
    assert found.visitors == 1 and found.excluded == {}
    with pytest.raises(JndError, match="nobody answered"):
        (tmp_path / "0.json").unlink()
        answers.read(tmp_path)


def test_answers_that_the_page_never_asked_for_do_not_count(tmp_path):
    test = {
        "id": "t",
        "pairs": [{"image": "i", "first": "i|a", "second": "i|b", "check": False}],
        "checks": [{"image": "i", "first": "i|original", "second": "i|check", "check": True}] * 8,
        "repeats": 20,
        "flickers": [{"image": "i", "codec": "webp", "levels": [{"quality": 50}]}],
    }
    claimed = {**pair("left"), "expected": "left"}
    flicker = check(True, "flicker", "no")
    write(
        tmp_path,
        record(1, *SIDES, flicker),
        record(2, *SIDES, claimed),
        record(3, *SIDES, pair("left", image="other")),
        record(4, *SIDES, {**flicker, "quality": 1e5}),
        record(5, *SIDES, pair("left")),
    )
    found = answers.read(tmp_path, test)
    assert [kept["subject"] for kept in found.kept] == [f"{1:016x}"]
    assert set(found.excluded.values()) == {"answers that the page never asked for"}


def test_conditions_select_subjects(tmp_path):
    write(
        tmp_path,
        record(1, *SIDES, device="laptop", distance_cm=60),
        record(2, *SIDES, device="phone", distance_cm=30),
        record(3, *SIDES, device="laptop", distance_cm=60, zoom_changes=1),
    )
    kept = lambda **conditions: [
        int(r["subject"], 16) for r in answers.read(tmp_path, None, answers.Conditions(**conditions)).kept
    ]
    assert kept() == [1, 2, 3]
    assert kept(devices=("laptop",)) == [1, 3]
    assert kept(distance_cm=(50, 80)) == [1, 3]
    assert kept(same_zoom=True) == [1, 2]


def test_a_folder_without_answers_or_with_several_tests_is_refused(tmp_path):
    with pytest.raises(JndError, match="(?i)put the subjects' answers"):
        answers.read(tmp_path)
    write(tmp_path, record(1, *SIDES), record(2, *SIDES, test="other"))
    with pytest.raises(JndError, match="different tests"):
        answers.read(tmp_path)
