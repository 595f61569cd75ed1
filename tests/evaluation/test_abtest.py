from __future__ import annotations

import csv
import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import analysis, answers, build, command, server, subjects

from .browser import chromium
from .conftest import call

CONDITIONS = ("jpeg@bpp=0.8", "webp@bpp=0.8")


@pytest.fixture(scope="module")
def test(photos) -> dict:
    return build.build(photos, CONDITIONS, "webp", repeats=12, levels=9, flicker_images=1, crop=96)


@pytest.fixture
def served(test, tmp_path):
    """(address, folder of answers) of the test on a local server."""
    build.write_page(test, tmp_path)
    host = server.server(tmp_path)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{host.server_address[1]}/", tmp_path / "answers"
    host.shutdown()
    thread.join()
    host.server_close()


def test_page_holds_all_pairs_checks_and_levels_at_the_asked_rate(test):
    assert len(test["pairs"]) == 3 and len(test["checks"]) == 8 and len(test["flickers"]) == 1
    assert all(0.5 < file["bpp"] <= 0.8 for file in test["files"])
    qualities = [level["quality"] for level in test["flickers"][0]["levels"]]
    assert qualities == sorted(qualities) and len(qualities) == 9
    used = {pair[side] for pair in test["pairs"] + test["checks"] for side in ("original", "first", "second")}
    used |= {level["source"] for flicker in test["flickers"] for level in flicker["levels"]}
    assert used == set(test["sources"])


def test_conditions_are_checked(photos):
    with pytest.raises(JndError, match="at least two"):
        build.build(photos, ["jpeg@q=50"], None)
    with pytest.raises(JndError, match="CODEC@"):
        build.build(photos, ["jpeg", "webp"], None)
    with pytest.raises(JndError, match="out of reach"):
        build.build(photos, ["jpeg@psnr=90", "webp@q=5"], None)


def post(address: str, body: bytes) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(f"{address}answers", body)).status
    except urllib.error.HTTPError as error:
        return error.code


def test_server_keeps_only_answers_to_its_test(test, served):
    address, folder = served
    good = {"test": test["id"], "subject": "0123456789abcdef", "answers": [1, 2]}
    assert post(address, json.dumps(good).encode()) == 204
    assert post(address, json.dumps({**good, "answers": [1]}).encode()) == 204
    assert json.loads((folder / "0123456789abcdef.json").read_text())["answers"] == [1, 2]
    # The last answer may arrive after the end that followed it.
    assert post(address, json.dumps({**good, "finished": "now"}).encode()) == 204
    assert post(address, json.dumps(good).encode()) == 204
    assert json.loads((folder / "0123456789abcdef.json").read_text())["finished"] == "now"
    for bad in ({**good, "test": "x"}, {**good, "subject": "../../etc/passwd"}, {**good, "answers": 3}, []):
        assert post(address, json.dumps(bad).encode()) == 400
    assert post(address, b"no json") == 400
    assert [path.name for path in folder.iterdir()] == ["0123456789abcdef.json"]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{address}test.json")


def start(page, address: str) -> None:
    page.goto(address)
    page.fill("#distance", "60")
    page.select_option("#device", "laptop")
    page.check("#agree")
    page.click("button[type=submit]")


def observe(page, choose, most: int = 1000) -> int:
    """Answers trials by keyboard as `choose(trial)` says until the end or `most`; the number answered."""
    for count in range(most):
        page.wait_for_function("trial !== null || document.body.dataset.finished === 'yes'")
        trial = page.evaluate("trial")
        if trial is None:
            return count
        if trial["kind"] == "pair":
            page.keyboard.down(" ")
            page.keyboard.up(" ")
        page.keyboard.press({"left": "ArrowLeft", "right": "ArrowRight", "yes": "y", "no": "n"}[choose(trial)])
    return most


def biased(bias: float, threshold: float, random: np.random.Generator):
    """An attentive observer who prefers WebP with probability `bias` and sees differences below
    `threshold`.
    """

    def choose(trial: dict) -> str:
        if trial["expected"]:
            return trial["expected"]
        if trial["kind"] == "flicker":
            return "yes" if trial["quality"] < threshold else "no"
        webp = "left" if "webp" in trial["left"] else "right"
        other = {"left": "right", "right": "left"}[webp]
        return webp if random.random() < bias else other

    return choose


def test_scripted_observers_in_a_browser(test, served, tmp_path):
    """The analysis recovers a known bias and threshold, and screens out who clicks at random; a browser that
    is closed half way goes on."""
    address, folder = served
    random = np.random.default_rng(5)
    bias, threshold = 0.75, 40
    with chromium() as browser:
        for number in range(4):
            context = browser.new_context()
            page = context.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            start(page, address)
            if number == 0:
                observe(page, biased(bias, threshold, random), most=20)
                page.wait_for_function("JSON.parse(localStorage.getItem(KEY)).answers.length === 20")
                page.close()
                page = context.new_page()
                page.goto(address)
                assert page.evaluate("state.answers.length") == 20
            observe(page, biased(bias, threshold, random))
            page.wait_for_function("$('saved').textContent.includes('saved')")
            assert errors == []
            context.close()
        page = browser.new_page()
        start(page, address)
        observe(
            page,
            lambda trial: str(random.choice(["left", "right"] if trial["kind"] == "pair" else ["yes", "no"])),
        )
        page.wait_for_function("$('saved').textContent.includes('saved')")
        guesser = page.evaluate("state.subject")
    result = analysis.analyse(answers.read_answers(folder))
    assert list(result["excluded"]) == [guesser] and result["subjects"] == 4
    (pair,) = result["pairs"]
    share = 1 - pair["share"] if pair["first"].startswith("jpeg") else pair["share"]
    low, high = subjects.wilson(round(share * pair["total"]), pair["total"])
    assert pair["total"] == 4 * 36 and low <= bias <= high and pair["verdict"] == "second"
    levels = [level["quality"] for level in test["flickers"][0]["levels"]]
    expected = min(quality for quality in levels if quality >= threshold)
    (jnd,) = result["jnd"]
    assert jnd["sur50"] == jnd["sur75"] == expected
    record = json.loads(next(folder.glob("*.json")).read_text())
    assert record["distance_cm"] == 60 and record["screen"]["width"] > 0 and record["finished"]
    assert call(command.add_arguments, command.run, "analyse", folder, "-o", tmp_path / "analysis") == 0
    (row,) = csv.DictReader((tmp_path / "analysis" / "jnd.csv").open())
    assert float(row["sur75"]) == expected and row["subjects"] == "4"
    assert "people prefer webp@bpp=0.8" in (tmp_path / "analysis" / "analysis.md").read_text()


def test_works_by_touch_from_a_file(test, tmp_path):
    build.write_page(test, tmp_path)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        start(page, (tmp_path / "index.html").as_uri())
        page.wait_for_function("trial !== null")
        assert page.locator("#buttons button").first.is_disabled()
        page.locator("#buttons button").nth(1).hover()
        page.mouse.down()
        assert page.evaluate("getComputedStyle(document.querySelector('.side img + img')).visibility") == "visible"
        page.mouse.up()
        page.locator("#buttons button").first.click()
        page.wait_for_function("state.answers.length === 1 && trial !== null")
        observe(page, lambda trial: "left" if trial["kind"] == "pair" else "no")
        assert "as a file" in page.text_content("#saved")
        with page.expect_download() as download:
            page.click("#download")
        assert len(json.loads(download.value.path().read_text())["answers"]) > 40


def record(subject: str, choices: list[str], checks: int = 8) -> dict:
    pairs = [
        {"kind": "pair", "image": "i", "left": "i|a", "right": "i|b", "choice": choice, "expected": None}
        for choice in choices
    ]
    pairs += [
        {
            "kind": "pair",
            "image": "i",
            "left": "i|original",
            "right": "i|check",
            "choice": "left",
            "expected": "left",
        }
    ] * checks
    return {"test": "t", "subject": subject, "answers": pairs}


def test_analysis_by_hand():
    result = analysis.analyse([record("s1", ["left"] * 5 + ["right"] * 3), record("s2", ["left"] * 4 + ["right"] * 4)])
    (pair,) = result["pairs"]
    assert (pair["first"], pair["wins"], pair["total"], pair["verdict"]) == ("a", 9, 16, "open")
    ranking = {row["condition"]: row for row in result["ranking"]}
    assert ranking["a"]["elo"] - ranking["b"]["elo"] == pytest.approx(400 * np.log10(9.5 / 7.5))
    assert ranking["a"]["low"] <= ranking["a"]["elo"] <= ranking["a"]["high"]
    assert "neither a preference nor equality" in analysis.sentence(pair)


def test_answers_are_checked(tmp_path):
    with pytest.raises(JndError, match="put the subjects' answers"):
        answers.read_answers(tmp_path)
    (tmp_path / "1.json").write_text(json.dumps(record("s1", [])))
    (tmp_path / "2.json").write_text(json.dumps({**record("s2", []), "test": "other"}))
    with pytest.raises(JndError, match="different tests"):
        answers.read_answers(tmp_path)
    (tmp_path / "2.json").write_text("[]")
    with pytest.raises(JndError, match="no file of answers"):
        answers.read_answers(tmp_path)
    with pytest.raises(JndError, match="screened out"):
        analysis.analyse([{"test": "t", "subject": "s", "answers": []}])
