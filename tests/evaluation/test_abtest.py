from __future__ import annotations

import csv
import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import analysis, answers, build, command, plan, server

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
    assert "about 7 minutes" in test["consent"]
    assert all(0.5 < file["bpp"] <= 0.8 for file in test["files"])
    qualities = [level["quality"] for level in test["flickers"][0]["levels"]]
    assert qualities == sorted(qualities) and len(qualities) == 9
    used = {pair[side] for pair in test["pairs"] + test["checks"] for side in ("original", "first", "second")}
    used |= {level["source"] for flicker in test["flickers"] for level in flicker["levels"]}
    used |= {flicker["plain"] for flicker in test["flickers"]}
    assert used == set(test["sources"])


def test_conditions_are_checked(photos):
    with pytest.raises(JndError, match="at least two"):
        build.build(photos, ["jpeg@q=50"], None)
    with pytest.raises(JndError, match="CODEC@"):
        build.build(photos, ["jpeg", "webp"], None)
    with pytest.raises(JndError, match="--subjects"):
        build.build(photos, CONDITIONS, None, looks=2)
    with pytest.raises(JndError, match="out of reach"):
        build.build(photos, ["jpeg@psnr=90", "webp@q=5"], None)
    for quality in ("30.7", "200", "nan"):
        with pytest.raises(JndError, match="no quality"):
            build.build(photos, [f"jpeg@q={quality}", "webp@q=5"], None)


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
        # People take a second or three, never the same twice.
        page.evaluate("shownAt -= 500 + 3000 * Math.random()")
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
    """The analysis recovers a known bias and threshold of subjects who differ, and screens out who clicks at random; a
    browser that is closed half way goes on."""
    address, folder = served
    random = np.random.default_rng(5)
    biases, threshold = (0.55, 0.95, 0.6, 0.9), 40
    with chromium() as browser:
        for number, bias in enumerate(biases):
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
    result = analysis.analyse(answers.read(folder, test))
    assert list(result["excluded"]) == [guesser] and result["subjects"] == 4
    (pair,) = result["pairs"]
    share = 1 - pair["share"] if pair["first"].startswith("jpeg") else pair["share"]
    assert pair["total"] == 4 * 36 and abs(share - np.mean(biases)) < 0.11
    # Counted one by one, 144 answers would leave an interval of .14.
    assert pair["high"] - pair["low"] > 0.25
    # Four subjects and three images are too few for any verdict.
    assert pair["verdict"] == "open"
    (jnd,) = result["jnd"]
    assert jnd["sur50"] == pytest.approx(threshold, abs=4) and jnd["sur75"] == pytest.approx(threshold, abs=4)
    first = json.loads(next(folder.glob("*.json")).read_text())
    assert first["distance_cm"] == 60 and first["screen"]["width"] > 0 and first["finished"]
    assert result["conditions"]["devices"] == {"laptop": 4} and result["conditions"]["pixel_ratios"] == {"1": 4}
    assert call(command.add_arguments, command.run, "analyse", folder, "-o", tmp_path / "analysis") == 0
    (row,) = csv.DictReader((tmp_path / "analysis" / "jnd.csv").open())
    assert float(row["sur75"]) == jnd["sur75"] and row["subjects"] == "4"
    assert "webp@bpp=0.8" in (tmp_path / "analysis" / "analysis.md").read_text()


def test_works_by_touch_from_a_file(test, tmp_path):
    build.write_page(test, tmp_path)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        start(page, (tmp_path / "index.html").as_uri())
        page.wait_for_function("trial !== null")
        assert page.locator("#buttons button").first.is_disabled()
        # Upright: one above the other, both whole.
        assert "Upper" in page.locator("#buttons button").first.text_content()
        upper, lower = (page.locator(".side").nth(i).bounding_box() for i in (0, 1))
        assert upper["width"] == lower["width"] == 96 and upper["y"] + upper["height"] <= lower["y"]
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


def record(subject: int, choices: list[str], images: int = 1) -> dict:
    def trial(image: str, left: str, right: str, choice: str, expected: str | None) -> dict:
        sides = {"left": f"{image}|{left}", "right": f"{image}|{right}"}
        return {"kind": "pair", "image": image, **sides, "choice": choice, "expected": expected, "ms": 1000 + subject}

    pairs = [trial(f"i{number % images}", "a", "b", choice, None) for number, choice in enumerate(choices)]
    pairs += [trial("i0", "original", "check", "left", "left")] * 8
    return {"test": "t", "subject": f"{subject:016x}", "answers": pairs}


def subjects_of(*records: dict) -> answers.Subjects:
    return answers.Subjects(list(records), {})


def test_analysis_by_hand():
    result = analysis.analyse(subjects_of(record(1, ["left"] * 5 + ["right"] * 3), record(2, ["left", "right"] * 4)))
    (pair,) = result["pairs"]
    assert (pair["first"], pair["wins"], pair["total"], pair["verdict"]) == ("a", 9, 16, "open")
    ranking = {row["condition"]: row for row in result["ranking"]}
    assert ranking["a"]["elo"] - ranking["b"]["elo"] == pytest.approx(400 * np.log10(9.5 / 7.5))
    assert ranking["a"]["low"] is None
    assert "neither a preference nor equality" in analysis.sentence(pair)


def test_a_plan_bars_verdicts_before_its_end_and_looks_are_told():
    lopsided = [record(number, ["left"] * 8, images=8) for number in range(8)]
    verdict = lambda result: result["pairs"][0]["verdict"]
    unplanned = analysis.analyse(subjects_of(*lopsided))
    assert verdict(unplanned) == "first" and "No number of subjects was fixed" in unplanned["notes"][0]
    interim = analysis.analyse(subjects_of(*lopsided), plan={"subjects": 12})
    assert verdict(interim) == "open" and "after 8 of 12 planned" in interim["notes"][0]
    looks = [plan.Look("t", 3, "2026-01-31"), plan.Look("t", 5, "2026-02-01", "--same-zoom")]
    told = "2 times before, after this many subjects: 3 (2026-01-31), 5 (2026-02-01, --same-zoom)"
    done = analysis.analyse(subjects_of(*lopsided), plan={"subjects": 8}, looks=looks)
    assert verdict(done) == "first" and f"{told}; 8 were planned." in done["notes"][0]
    assert f"{told}." in analysis.analyse(subjects_of(*lopsided), looks=looks)["notes"][1]
    longer = analysis.analyse(subjects_of(*lopsided), plan={"subjects": 5}, looks=looks)
    assert verdict(longer) == "open" and "the verdicts of that look stand" in longer["notes"][0]


def test_planned_looks_give_verdicts_at_their_price():
    """8 subjects who all agree: p < .001. One disagreement in 8 of each: .001 < p < .05."""
    agreed = [record(number, ["left"] * 8, images=8) for number in range(8)]
    mostly = [record(number, ["left"] * 8, images=8) for number in range(7)]
    mostly.append(record(7, ["right"] * 8, images=8))
    early = {"subjects": 12, "looks": 1}
    verdict = lambda records, **rest: analysis.analyse(subjects_of(*records), **rest)["pairs"][0]["verdict"]
    assert verdict(agreed, plan=early) == "first" and verdict(mostly, plan=early) == "open"
    assert verdict(agreed, plan=early, looks=[plan.Look("t", 6, "2026-01-31")]) == "open"
    assert verdict(mostly, plan={"subjects": 8, "looks": 1}) == "first"
    text = analysis.to_markdown(analysis.analyse(subjects_of(*agreed), plan=early), "x")
    assert "verdicts are given at 0.1 % as planned" in text and "follow from them at 0.1 %" in text


def test_looks_are_kept_beside_the_test(test, tmp_path):
    build.write_page({**test, "plan": {"subjects": 3}}, tmp_path)
    folder = tmp_path / "answers"
    folder.mkdir()
    sources = test["pairs"][0]
    for number in range(3):
        trials = [
            {"kind": "pair", "image": sources["image"], "left": sources["first"], "right": sources["second"]}
            | {"choice": choice, "expected": None, "ms": 900 + number}
            for choice in ("left", "right")
        ]
        content = {"test": test["id"], "subject": f"{number:016x}", "answers": trials}
        (folder / f"{number}.json").write_text(json.dumps(content))
        assert call(command.add_arguments, command.run, "analyse", folder, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "analysis.md").read_text()
    assert "2 times before, after this many subjects: 1 (20" in text and "interim" not in text
    assert "; 3 were planned" in text and "p 1 of no preference" in text
    # The same again is no other look, nor is one at another test.
    looks = json.loads((tmp_path / "looks.json").read_text())
    (tmp_path / "looks.json").write_text(json.dumps([{**looks[0], "test": "other"}, *looks]))
    assert call(command.add_arguments, command.run, "analyse", folder, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "analysis.md").read_text() == text and len(looks) == 3
    for name, content, complaint in (("looks.json", "x", "damaged"), ("test.json", "[]", "no test.json")):
        (tmp_path / name).write_text(content)
        with pytest.raises(JndError, match=complaint):
            call(command.add_arguments, command.run, "analyse", folder, "-o", tmp_path / "out")


def test_only_results_that_can_be_seen_are_a_look(test, tmp_path):
    build.write_page({**test, "plan": {"subjects": 1}}, tmp_path)
    (tmp_path / "answers").mkdir()
    sources = test["pairs"][0]
    trial = {"kind": "pair", "image": sources["image"], "left": sources["first"], "right": sources["second"]}
    trial |= {"choice": "left", "expected": None, "ms": 900}
    content = {"test": test["id"], "subject": f"{0:016x}", "answers": [trial]}
    (tmp_path / "answers/0.json").write_text(json.dumps(content))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        call(command.add_arguments, command.run, "analyse", tmp_path / "answers", "-o", tmp_path / "file/out")
    with pytest.raises(SystemExit):
        call(command.add_arguments, command.run, "analyse", tmp_path / "answers", "-o", tmp_path, "--margin", "5")
    assert not (tmp_path / "looks.json").exists()
    # People's answers bar another test from their folder.
    with pytest.raises(JndError, match="answers to another test"):
        build.write_page({**test, "id": "another"}, tmp_path)


def test_a_name_may_hold_any_character():
    trial = {"kind": "pair", "image": "a|b", "left": "a|b|jpeg@q=1", "right": "a|b|webp@q=1", "choice": "left"}
    records = [{"subject": "s", "answers": [{**trial, "expected": None}]}]
    (choice,) = analysis._choices(records)
    assert (choice.preferred, choice.other) == ("jpeg@q=1", "webp@q=1")


def test_plan_prints_the_size_of_a_test(capsys):
    assert call(command.add_arguments, command.run, "plan", "--images", "24") == 0
    assert "24 images: 31 subjects" in capsys.readouterr().out
    assert call(command.add_arguments, command.run, "plan", "--images", "24", "--looks", "3") == 0
    text = capsys.readouterr().out
    assert "level 0.047" in text and "--looks 3" in text
    with pytest.raises(JndError, match="0 to 20 looks"):
        call(command.add_arguments, command.run, "plan", "--looks", "21")


def test_links_invite_subjects_and_nobody_else(test, tmp_path):
    build.write_page(test, tmp_path)
    (number,) = server.invite(tmp_path, 1)
    assert server.invite(tmp_path, 1) == [number]
    host = server.server(tmp_path)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{host.server_address[1]}/"
    content = {"test": test["id"], "subject": number, "answers": []}
    assert urllib.request.urlopen(f"{address}?subject={number}").status == 200
    assert post(address, json.dumps(content).encode()) == 204
    assert post(address, json.dumps({**content, "subject": "0" * 16}).encode()) == 400
    host.shutdown()
    thread.join()
    host.server_close()


@pytest.mark.parametrize("scaling", [1, 1.25, 1.5, 2])
def test_pictures_are_shown_pixel_by_pixel(test, served, scaling):
    """A picture's box spans as many device pixels as it has pixels, and begins at a whole one, at every scaling."""
    with chromium() as browser:
        page = browser.new_context(device_scale_factor=scaling, viewport={"width": 1111, "height": 777}).new_page()
        start(page, served[0])
        page.wait_for_function("trial !== null")
        boxes = page.evaluate(
            "[...document.querySelectorAll('.side img')].map(i => [i.getBoundingClientRect(), i.naturalWidth])"
            ".map(([b, n]) => [b.left, b.top, b.width].map(x => x * devicePixelRatio).concat(n))"
        )
    assert len(boxes) == 4
    for left, top, width, natural in boxes:
        assert width == pytest.approx(natural, abs=0.03)
        assert left == pytest.approx(round(left), abs=0.03) and top == pytest.approx(round(top), abs=0.03)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_refused(tmp_path, port):
    with pytest.raises(JndError, match=f"port of 0 to 65535, not {port}"):
        server.server(tmp_path, port)
