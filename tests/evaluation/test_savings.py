from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation import savings
from jnd_jax.evaluation.results import Results

from .browser import chromium
from .conftest import call

# One million files of 100 kB are 100 GB; ten million deliveries, 80 % of them new, are 800 GB a month.
PLAIN = savings.Assumptions(
    currency="EUR",
    today="jpeg",
    new="stub",
    metric="ssimulacra2",
    images_stored=1_000_000,
    images_served_per_month=10_000_000,
    average_kilobytes=100,
    average_megapixels=2,
    share_delivered_new=0.8,
    keep_today_files=False,
    traffic_price_per_gb=0.05,
    storage_price_per_gb_month=0.02,
    cpu_price_per_hour=0.036,
    decode_on_servers_share=0.1,
    training_cost=20,
    migration_cost=60,
    running_cost_per_month=1,
    horizon_months=24,
)
MEASURED = savings.Measured(0.6, 0.5, 0.7, 24, 1.0, 1.0, 0.1)


def test_a_case_by_hand():
    """Ratio .6: traffic 800 GB * .4 * .05 = 16; storage 100 GB * .4 * .02 = .8; a megapixel-second of a core
    costs .036 / 3600 = 1e-5, so decoding 800,000 images of .2 s = 1.6 and encoding 1,000,000 of 2 s = 20
    once."""
    money = savings.calculate(PLAIN, 0.6, 1.0, 0.1)
    assert money.traffic_per_month == pytest.approx(16)
    assert money.storage_per_month == pytest.approx(0.8)
    assert money.decode_per_month == pytest.approx(1.6)
    assert money.once == pytest.approx(100)
    assert money.saved_per_month == pytest.approx(14.2)
    assert money.payback_months == pytest.approx(100 / 14.2)
    assert money.net == pytest.approx(24 * 14.2 - 100)
    assert money.return_on_investment == pytest.approx(2.408)


def test_keeping_todays_files_costs_storage():
    money = savings.calculate(replace(PLAIN, keep_today_files=True), 0.6, 1.0, 0.1)
    assert money.storage_per_month == pytest.approx(-1.2)


def test_no_saving_and_loss_are_said_plainly():
    def words(ratio: float, low: float, high: float, **changes: float) -> str:
        measured = replace(MEASURED, ratio=ratio, low=low, high=high)
        return savings.report(replace(PLAIN, **changes), measured, [], "")["verdict"]

    good = words(0.6, 0.5, 0.7)
    assert "40 % fewer bytes" in good and "(30 to 50 %;" in good and "pays back after 7.0 months" in good
    assert "worth 241 EUR in 24 months, at least" in good
    loss = words(1.2, 1.1, 1.3)
    assert "20 % MORE bytes" in loss and "does NOT pay" in loss and "even at the best end" in loss
    same = words(1.0, 0.9, 1.1)
    assert "no difference in bytes" in same and "does NOT pay" in same
    assert "NOT settled" in words(0.75, 0.6, 0.9)
    assert savings.calculate(PLAIN, 1.0, 1, 0.1).payback_months == math.inf


def test_the_return_on_the_cost_is_shown():
    """.6: (24 * 14.2 - 100) / 100."""
    (line,) = [
        line
        for line in savings.to_markdown(savings.report(PLAIN, MEASURED, [], "")).splitlines()
        if line.startswith("| return on the cost")
    ]
    assert line.split(" | ")[2] == "241 %"
    free = savings.report(replace(PLAIN, training_cost=0, migration_cost=0), replace(MEASURED, encode_s=0), [], "")
    assert free["scenarios"]["measured"]["return_on_investment"] is None


def test_the_page_says_what_each_number_means():
    meanings = savings.meanings()
    assert meanings["images_stored"] == "files kept today"
    assert meanings["share_delivered_new"].startswith("of the traffic that goes to viewers")
    assert set(meanings) <= set(savings.Assumptions.__dataclass_fields__)


def test_nothing_goes_beyond_the_measured_interval():
    data = savings.report(PLAIN, MEASURED, [], "")
    ends = [savings.calculate(PLAIN, ratio, 1.0, 0.1).net for ratio in (0.7, 0.6, 0.5)]
    assert [data["scenarios"][name]["net"] for name in ("worst", "measured", "best")] == ends == sorted(ends)
    assert data["cumulative"]["measured"][-1] == pytest.approx(ends[1])


def test_sensitivity_puts_what_matters_first():
    rows = savings.sensitivity(PLAIN, MEASURED)
    spans = [abs(row["higher"] - row["lower"]) for row in rows]
    assert spans == sorted(spans, reverse=True) and rows[0]["name"] == "measured ratio of bytes"
    migration = next(row for row in rows if row["name"] == "migration_cost")
    assert migration["lower"] - migration["higher"] == pytest.approx(30)


def write_results(path, ratios, reached=True) -> None:
    results = Results(path / "results.jsonl")
    for number, ratio in enumerate(ratios):
        for codec, bpp in (("jpeg", 1.0 + number), ("stub", ratio * (1.0 + number))):
            base = {"codec": codec, "version": "0" * 16, "image": f"i{number}", "digest": f"{number:016x}"}
            results.append(
                {
                    "kind": "point",
                    **base,
                    "quality": 50.0,
                    "width": 1000,
                    "height": 500,
                    "bytes": 1,
                    "bpp": 1.0,
                    "encode_s": 0.5,
                    "decode_s": 0.05,
                    "metrics": {},
                }
            )
            results.append(
                {
                    "kind": "jnd",
                    **base,
                    "metric": "ssimulacra2",
                    "t": 1.0,
                    "reached": reached or codec == "jpeg",
                    "bpp": bpp,
                }
            )


def test_measured_ratio_is_that_of_the_mean_bits(tmp_path):
    write_results(tmp_path, [0.5, 0.7, 0.6])
    measured = savings.measure(Results(tmp_path / "results.jsonl"), PLAIN)
    assert measured.ratio == pytest.approx((0.5 + 1.4 + 1.8) / 6)
    assert 0.5 <= measured.low < measured.ratio < measured.high <= 0.7
    assert (measured.images, measured.encode_s, measured.decode_s) == (3, 1.0, 0.1)


def test_a_look_that_is_not_reached_saves_nothing(tmp_path):
    write_results(tmp_path, [0.5, 0.6], reached=False)
    with pytest.raises(JndError, match="no saving at equal look"):
        savings.measure(Results(tmp_path / "results.jsonl"), PLAIN)
    with pytest.raises(JndError, match="hold no 1 JND"):
        savings.measure(Results(tmp_path / "results.jsonl"), replace(PLAIN, new="other"))


def test_assumptions_are_checked_line_by_line(tmp_path):
    assert savings.read_assumptions(savings.EXAMPLE).today == "jpeg"
    text = savings.EXAMPLE.read_text()
    for change, complaint in (
        (("training_cost", "trainings_cost"), "line `train"),
        (("= 0.8", "= 1.8"), "share"),
        (("= 1000.0", '= "much"'), "a number"),
        (("= true", "= 1"), "bool"),
        (("= 1000.0", "= -5"), "zero or more"),
        (("= 1000.0", "= "), "TOML"),
    ):
        (tmp_path / "a.toml").write_text(text.replace(*change))
        with pytest.raises(JndError, match=complaint):
            savings.read_assumptions(tmp_path / "a.toml")


def test_command_makes_a_page_that_a_browser_shows(tmp_path, capsys):
    pytest.importorskip("plotly")
    write_results(tmp_path, [0.5, 0.6, 0.7])
    # The family's name stands for the newest model that was measured.
    results = tmp_path / "results.jsonl"
    results.write_text(results.read_text().replace('"stub"', '"stub-2"'))
    (tmp_path / "a.toml").write_text(savings.EXAMPLE.read_text().replace("jnd-perceptual", "stub"))
    people = tmp_path / "people"
    people.mkdir()
    (people / "analysis.json").write_text(
        json.dumps(
            {
                "subjects": 9,
                "excluded": {"x": "y"},
                "pairs": [
                    {
                        "first": "a",
                        "second": "b",
                        "wins": 50,
                        "total": 100,
                        "share": 0.5,
                        "low": 0.404,
                        "high": 0.596,
                        "verdict": "equal",
                    }
                ],
            }
        )
    )
    assert (
        call(
            savings.add_arguments,
            savings.run,
            "--results",
            tmp_path,
            "--assumptions",
            tmp_path / "a.toml",
            "--people",
            people,
            "-o",
            tmp_path / "out",
        )
        == 0
    )
    assert "fewer bytes" in capsys.readouterr().out
    text = (tmp_path / "out" / "savings.md").read_text()
    assert "| net over the horizon |" in text and "equally good" in text
    assert f"--people {people}" in text.splitlines()[0]
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto((tmp_path / "out" / "savings.html").as_uri())
        page.wait_for_selector("#time .scatterlayer .trace")
        assert page.locator("#time .scatterlayer .trace").count() == 3
        assert page.locator("#bars .barlayer .bars").count() == 2
        assert page.locator("#people li").count() == 2 and not page.locator("#nobody").is_visible()
        assert "fewer bytes" in page.text_content("#bits") and "36 months" in page.text_content("#verdict")
        assert page.locator("#assumptions small").count() == len(savings.meanings())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert messages == []


def test_example_is_printed(capsys):
    assert call(savings.add_arguments, savings.run, "--example") == 0
    assert "traffic_price_per_gb" in capsys.readouterr().out
    with pytest.raises(JndError, match="give --results"):
        call(savings.add_arguments, savings.run, "-o", "x")
