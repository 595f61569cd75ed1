from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation import savings, savings_page, verdict
from jnd_jax.evaluation.results import Results

from .browser import chromium
from .conftest import call

# One million files of 100 kB are 100 GB; ten million deliveries, 80 % of them new, are 800 GB a month.
PLAIN = savings.Assumptions(
    currency="EUR",
    today="jpeg",
    new="stub",
    alternative="best",
    metric="ssimulacra2",
    scale="konjnd",
    images_stored=1_000_000,
    new_images_per_month=0,
    renditions=1,
    images_served_per_month=10_000_000,
    average_kilobytes=100,
    average_megapixels=2,
    keep_today_files=False,
    share_clients_new=0.8,
    share_clients_alternative=0.95,
    decoder_kilobytes=0,
    new_visitors_per_month=0,
    decode_on_servers_share=0.1,
    traffic_price_per_gb=0.05,
    storage_price_per_gb_month=0.02,
    cpu_price_per_hour=0.036,
    encodes_per_file=1,
    training_cost=20,
    migration_cost=60,
    migration_cost_alternative=60,
    running_cost_per_month=1,
    running_cost_per_month_alternative=1,
    ramp_up_months=0,
    discount_rate=0,
    horizon_months=24,
)
MEASURED = savings.Measured("stub", 0.6, 0.5, 0.7, 24, 1.0, 1.0, 0.1)
OTHER = savings.Measured("avif", 0.62, 0.6, 0.64, 24, 1.0, 2.0, 0.1)


def test_a_case_by_hand():
    """Ratio .6: traffic 800 GB * .4 * .05 = 16; storage 100 GB * .4 * .02 = .8; a megapixel-second of a core
    costs .036 / 3600 = 1e-5, so decoding 800,000 images of .2 s = 1.6 and encoding 1,000,000 of 2 s = 20
    once."""
    money = savings.calculate(PLAIN, MEASURED)
    assert money.traffic_per_month == pytest.approx(16)
    assert money.storage_per_month == pytest.approx(0.8)
    assert money.decode_per_month == pytest.approx(1.6)
    assert money.once == pytest.approx(100)
    assert money.saved_per_month == pytest.approx(14.2)
    assert money.payback_months == pytest.approx(100 / 14.2)
    assert money.net == pytest.approx(24 * 14.2 - 100)
    assert money.return_on_investment == pytest.approx(2.408)
    assert money.bill_today == pytest.approx(1000 * 0.05 + 2) and money.bill_new == pytest.approx(52 - 14.2)


def test_keeping_todays_files_costs_storage():
    money = savings.calculate(replace(PLAIN, keep_today_files=True), MEASURED)
    assert money.storage_per_month == pytest.approx(-1.2)


def test_uploads_renditions_and_searches_cost_encodes():
    """100,000 uploads of 3 renditions, each encoded 5 times for 2 s at 1e-5: 30 a month, and the store 3 * 5 * 20 once."""
    busy = replace(PLAIN, new_images_per_month=100_000, renditions=3, encodes_per_file=5)
    money = savings.calculate(busy, MEASURED)
    assert money.encode_per_month == pytest.approx(30)
    assert money.once == pytest.approx(80 + 300)
    # 1,000,000 and 24 months of uploads, 3 files each.
    assert money.bill_today == pytest.approx(50 + 3.4e6 * 3 * 1e-4 * 0.02)


def test_a_change_that_costs_nothing_at_first_and_loses_never_pays_back():
    assert savings._payback([0.0, -1.0, -2.0]) is None and savings._payback([0.0, 1.0]) == 0.0


def test_no_client_no_saving():
    money = savings.calculate(replace(PLAIN, share_clients_new=0), MEASURED)
    assert money.traffic_per_month == 0 and money.payback_months is None
    data = savings_page.report(replace(PLAIN, share_clients_new=0), MEASURED, OTHER, [], "")
    assert "no client can show stub yet" in data["money"]


def test_ramp_up_discount_and_decoder_by_hand():
    """Half of 16 + .8 in month 1 of 2; 1 % a year of discount; 1000 visitors of 500 kB are .5 GB of .05."""
    slow = replace(PLAIN, ramp_up_months=2, horizon_months=1, discount_rate=0.01)
    money = savings.calculate(replace(slow, new_visitors_per_month=1000, decoder_kilobytes=500), MEASURED)
    saved = 0.5 * (16 + 0.8 - 1.6) - 1 - 0.025
    assert money.saved_per_month == pytest.approx(saved) and money.decoder_per_month == pytest.approx(0.025)
    assert money.net == pytest.approx(saved / 1.01 ** (1 / 12) - 100)


def test_traffic_tiers_by_hand():
    """1000 GB: 600 at .10 and 400 at .05; the 320 GB saved were the cheap ones."""
    tiers = [(600.0, 0.10), (math.inf, 0.05)]
    assert savings.traffic_cost(1000, tiers) == pytest.approx(80)
    money = savings.calculate(replace(PLAIN, traffic_price_per_gb=tiers), MEASURED)
    assert money.traffic_per_month == pytest.approx(16)


def words(ratio: float, low: float, high: float, other: savings.Measured | None = None, **changes: float) -> dict:
    measured = replace(MEASURED, ratio=ratio, low=low, high=high)
    return savings_page.report(replace(PLAIN, **changes), measured, other, [], "")


def test_no_saving_and_loss_are_said_plainly():
    good = words(0.6, 0.5, 0.7)["verdict"]
    assert "40 % fewer bytes" in good and "(30 to 50 %;" in good and "pays back after 7.0 months" in good
    assert "worth 241 EUR in 24 months, at least" in good
    loss = words(1.2, 1.1, 1.3)["verdict"]
    assert "20 % MORE bytes" in loss and "does NOT pay" in loss and "even at the best end" in loss
    same = words(1.0, 0.9, 1.1)["verdict"]
    assert "no difference in bytes" in same and "does NOT pay" in same
    assert "NOT settled" in words(0.75, 0.6, 0.9)["verdict"]
    assert savings.calculate(PLAIN, MEASURED, 1.0).payback_months is None


def test_few_images_are_said_to_bound_nothing():
    measured = replace(MEASURED, low=None, high=None, images=3)
    data = savings_page.report(PLAIN, measured, None, [], "")
    assert "too few images" in data["bits"] and "no interval bounds it" in data["money"]


def test_the_alternative_stands_beside():
    """AVIF saves 38 % for 95 % of the deliveries and trains nothing: 24 * (19 * .95 + ...) are more than ours."""
    data = words(0.6, 0.59, 0.61, OTHER)
    assert "avif saves 38 % of the bytes of jpeg today (stub: 40 %), at no training cost" in data["beside"]
    assert "MORE than stub: change to avif" in data["beside"]
    assert "does not tell from stub" in words(0.6, 0.4, 0.7, OTHER)["beside"]
    assert "it loses 5 EUR; stub is 246 EUR better" in words(0.6, 0.5, 0.7, replace(OTHER, ratio=0.9))["beside"]
    assert "No other codec was measured" in words(0.6, 0.5, 0.7)["beside"]
    against = savings.Measured("stub", 0.93, 0.9, 0.96, 24, 1.0, 1.0, 0.1)
    paired = savings_page.report(PLAIN, MEASURED, OTHER, [], "", against)["beside"]
    assert "Side by side: stub needs 7 % fewer bytes than avif at equal look (4 to 10 %; SSIMULACRA2 (KonJND)" in paired


def test_avif_by_its_defaults_is_no_best_alternative():
    caveat = verdict.caveat({"jpeg", "avif"})
    assert "at its best (`avif10`) it was not measured" in caveat
    assert savings_page.report(PLAIN, MEASURED, OTHER, [], "", caveat=caveat)["beside"].endswith(caveat)
    assert verdict.caveat({"avif", "avif10"}) == verdict.caveat({"jpeg"}) == ""


def test_the_page_says_what_equal_look_means():
    """Nowhere the flicker test's level is called the smallest difference that people see."""
    assert "closely see about two" in words(0.6, 0.5, 0.7)["look"]
    assert "compare two pictures closely" in words(0.6, 0.5, 0.7, scale="aic")["look"]


def test_what_would_have_to_be_true_does_make_it_pay():
    """The needed number, put in, gives a net of zero."""
    losing = replace(PLAIN, migration_cost=1000)
    assert savings.calculate(losing, MEASURED).net < 0
    needed = {row["name"]: row["needed"] for row in savings.break_even(losing, MEASURED)}
    for name in ("images_served_per_month", "migration_cost"):
        assert savings.calculate(replace(losing, **{name: needed[name]}), MEASURED).net == pytest.approx(0, abs=0.01)
    assert savings.calculate(losing, MEASURED, needed["measured ratio of bytes"] or 0).net == pytest.approx(0, abs=400)
    assert needed["share_clients_new"] is None


def test_the_return_on_the_cost_is_shown():
    """.6: (24 * 14.2 - 100) / 100."""
    (line,) = [
        line
        for line in savings_page.to_markdown(savings_page.report(PLAIN, MEASURED, None, [], "")).splitlines()
        if line.startswith("| return on the cost")
    ]
    assert line.split(" | ")[1] == "241 %"
    free = replace(PLAIN, training_cost=0, migration_cost=0)
    data = savings_page.report(free, replace(MEASURED, encode_s=0), None, [], "")
    assert data["scenarios"]["measured"]["return_on_investment"] is None


def test_the_page_says_what_each_number_means():
    meanings = savings.meanings()
    assert meanings["images_stored"] == "pictures kept today"
    assert meanings["share_clients_new"].startswith("of deliveries to clients that can show")
    assert set(meanings) <= set(savings.Assumptions.__dataclass_fields__)


def test_nothing_goes_beyond_the_measured_interval():
    data = savings_page.report(PLAIN, MEASURED, None, [], "")
    ends = [savings.calculate(PLAIN, MEASURED, ratio).net for ratio in (0.7, 0.6, 0.5)]
    assert [data["scenarios"][name]["net"] for name in ("worst", "measured", "best")] == ends == sorted(ends)
    assert data["scenarios"]["measured"]["cumulative"][-1] == pytest.approx(ends[1])


def test_sensitivity_puts_what_matters_first():
    rows = savings.sensitivity(PLAIN, MEASURED)
    spans = [abs(row["higher"] - row["lower"]) for row in rows]
    assert spans == sorted(spans, reverse=True) and rows[0]["name"] == "measured ratio of bytes"
    migration = next(row for row in rows if row["name"] == "migration_cost")
    assert migration["lower"] - migration["higher"] == pytest.approx(30)


def write_results(path, ratios, reached=True) -> None:
    """Three files of each codec and image; the middle one is at SSIMULACRA2 64, one JND, unless the stub never reaches it."""
    results = Results(path / "results.jsonl")
    for number, ratio in enumerate(ratios):
        for codec, bpp in (("jpeg", 1.0 + number), ("stub", ratio * (1.0 + number))):
            lost = 0.0 if reached or codec == "jpeg" else 30.0
            for quality, factor, value in ((25.0, 0.5, 40.0), (50.0, 1.0, 64.0), (75.0, 2.0, 90.0)):
                results.append(
                    {
                        "kind": "point",
                        "codec": codec,
                        "version": "0" * 16,
                        "image": f"i{number}",
                        "digest": f"{number:016x}",
                        "quality": quality,
                        "width": 1000,
                        "height": 500,
                        "bytes": 1,
                        "bpp": factor * bpp,
                        "encode_s": 0.5,
                        "decode_s": 0.05,
                        "metrics": {"ssimulacra2": value - lost},
                    }
                )


def test_measured_ratio_is_that_of_the_mean_bits(tmp_path):
    write_results(tmp_path, [0.5, 0.7, 0.6])
    measured = savings.measure(Results(tmp_path / "results.jsonl"), "stub", "jpeg", "ssimulacra2")
    assert measured.ratio == pytest.approx((0.5 + 1.4 + 1.8) / 6)
    assert measured.low is None
    write_results(tmp_path, [0.5, 0.7, 0.6] * 4)
    measured = savings.measure(Results(tmp_path / "results.jsonl"), "stub", "jpeg", "ssimulacra2")
    assert 0.5 <= measured.low < measured.ratio < measured.high <= 0.7
    assert (measured.images, measured.encode_s, measured.decode_s) == (12, 1.0, 0.1)


def test_a_look_that_is_not_reached_saves_nothing(tmp_path):
    write_results(tmp_path, [0.5, 0.6], reached=False)
    with pytest.raises(JndError, match="no saving at equal look"):
        savings.measure(Results(tmp_path / "results.jsonl"), "stub", "jpeg", "ssimulacra2")
    with pytest.raises(JndError, match="hold no ssimulacra2 of other"):
        savings.measure(Results(tmp_path / "results.jsonl"), "other", "jpeg", "ssimulacra2")


def test_assumptions_are_checked_line_by_line(tmp_path):
    assert savings.read_assumptions(savings.EXAMPLE).today == "jpeg"
    text = savings.EXAMPLE.read_text()
    for change, complaint in (
        (("training_cost", "trainings_cost"), "add the line `training_cost`, take out the line `trainings_cost`"),
        (('today = "jpeg"', 'today = "jnd-perceptual"'), "name two"),
        (("= 0.95", "= 1.8"), "share"),
        (("= 36 ", "= 100000 "), "from 1 to 120"),
        (("gb = 0.02", "gb = [[10, 0.1], [5, 0.2]]"), "tiers such as"),
        (("= 1000.0", '= "much"'), "a number"),
        (("= true", "= 1"), "bool"),
        (("= 1000.0", "= -5"), "from 0 to 1e"),
        (("= 1000.0", "= 1e300"), "from 0 to 1e"),
        (("= 1000.0", "= "), "TOML"),
        (('"aic"', '"lab"'), "one of aic, konjnd"),
    ):
        (tmp_path / "a.toml").write_text(text.replace(*change))
        with pytest.raises(JndError, match=complaint):
            savings.read_assumptions(tmp_path / "a.toml")


def test_command_makes_a_page_that_a_browser_shows(tmp_path, capsys):
    pytest.importorskip("plotly")
    write_results(tmp_path, [0.5, 0.6, 0.7] * 4)
    # The family's name stands for the newest model that was measured.
    results = tmp_path / "results.jsonl"
    results.write_text(results.read_text().replace('"stub"', '"stub-2"'))
    (tmp_path / "a.toml").write_text(
        savings.EXAMPLE.read_text().replace("jnd-perceptual", "stub").replace("new = 0.0", "new = 0.8")
    )
    people = tmp_path / "people"
    people.mkdir()
    (people / "analysis.json").write_text(
        json.dumps(
            {
                "subjects": 9,
                "excluded": {"x": "y"},
                "notes": ["The test was looked at twice before."],
                "pairs": [
                    {
                        "first": "a",
                        "second": "b",
                        "wins": 50,
                        "total": 100,
                        "subjects": 9,
                        "images": 12,
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
            savings_page.add_arguments,
            savings_page.run,
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
    assert "- The test was looked at twice before." in text
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
        assert page.locator("#people li").count() == 3 and not page.locator("#nobody").is_visible()
        assert "fewer bytes" in page.text_content("#bits") and "36 months" in page.text_content("#verdict")
        assert page.locator("#even .scatterlayer .trace").count() == 1 and page.locator("#conditions li").count() == 5
        assert "No other codec was measured" in page.text_content("#beside")
        assert page.locator("#assumptions small").count() == len(savings.meanings())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert messages == []


def test_example_is_printed(capsys):
    assert call(savings_page.add_arguments, savings_page.run, "--example") == 0
    assert "traffic_price_per_gb" in capsys.readouterr().out
    with pytest.raises(JndError, match="Give --results"):
        call(savings_page.add_arguments, savings_page.run, "-o", "x")
