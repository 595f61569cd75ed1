"""The report in a real browser: everything drawn, nothing fetched, no console message."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from .browser import chromium
from .test_run import comparison  # noqa: F401


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, comparison):  # noqa: F811
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(120_000)  # a busy machine draws slowly
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http") and messages.append(request.url))
    page.goto((comparison[0] / "report.html").as_uri())
    page.wait_for_selector('canvas[data-drawn="yes"]')
    yield page
    page.close()
    assert messages == []


def picture(page, pane: str) -> str:
    return page.evaluate(f"document.querySelector('[data-pane={pane}] canvas').toDataURL()")


def caption(page, pane: str) -> str:
    return page.text_content(f"[data-pane={pane}] figcaption")


def test_every_plot_and_table_is_drawn(page):
    assert page.locator("#curves .scatterlayer .trace").count() == 3
    assert page.locator("#jnd .barlayer .bars").count() == 3
    assert page.locator("#bd tbody tr").count() == 3
    assert page.locator("#images tbody tr").count() == 3
    assert page.locator("#codecs tbody tr").count() == 3
    assert page.locator("#ratios tbody tr").count() >= 3
    assert page.locator("#time .scatterlayer .trace").count() == 2
    assert page.locator("#scatter .scatterlayer .trace").count() == 2
    assert page.locator("#verdict li").count() in (2, 3) and "best rival" in page.text_content("#verdict")
    means = page.text_content("#ratios tbody")
    page.check("#geometric")
    assert page.text_content("#ratios tbody") != means
    assert page.locator("#metric-bar [aria-pressed=true]").text_content() in page.text_content("#curves .ytitle")
    for button in page.locator("#metric-bar button").all():
        button.click()
        assert button.text_content() in page.text_content("#curves .ytitle")
        assert page.locator("#curves .scatterlayer .trace path.js-line").count() == 3


def test_viewer_works_by_mouse(page):
    before = picture(page, "a")
    page.select_option("#v-a", "jpeg")
    page.wait_for_function("document.querySelector('[data-pane=a] figcaption').textContent.includes('JPEG')")
    assert picture(page, "a") != before
    for _ in range(3):
        page.click("#v-in")
    zoomed = picture(page, "a")
    box = page.locator("[data-pane=a]").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.up()
    assert picture(page, "a") != zoomed
    page.click("#v-flip")
    assert page.locator(".pane:visible").count() == 1
    first = caption(page, "a")
    page.click("[data-pane=a]")
    assert page.locator("[data-pane=b]").is_visible() and caption(page, "b") != first


def test_viewer_works_by_keyboard(page):
    page.focus("#stage")
    page.keyboard.press("f")
    assert page.locator("[data-pane=a]").is_visible() and not page.locator("[data-pane=b]").is_visible()
    page.keyboard.press("f")
    assert page.locator("[data-pane=b]").is_visible()
    page.keyboard.down("o")
    assert page.locator("[data-pane=original]").is_visible()
    page.keyboard.up("o")
    coded = picture(page, "b")
    page.keyboard.press("e")
    assert "error" in caption(page, "b") and picture(page, "b") != coded
    page.keyboard.press("e")
    for _ in range(4):
        page.keyboard.press("+")
    zoomed = picture(page, "b")
    page.keyboard.press("ArrowLeft")
    assert zoomed != coded and picture(page, "b") != zoomed
    page.keyboard.press("Escape")
    assert page.locator(".pane:visible").count() == 3


def test_viewer_shows_pixels_as_they_are_and_offers_them(page):
    """At 1:1 a canvas has as many pixels as it spans device pixels; the shown file and a PNG can be had."""
    width, shown = page.evaluate(
        "(c => [c.width, c.getBoundingClientRect().width * devicePixelRatio])(document.querySelector('.pane canvas'))"
    )
    assert width == pytest.approx(shown, abs=0.03)
    assert page.text_content("#v-zoom") == "1:1"
    before = picture(page, "a")
    page.click("#v-map")
    page.wait_for_function("document.querySelector('[data-pane=a] figcaption').textContent.includes('visible')")
    assert page.locator("#v-key").is_visible()
    page.wait_for_function(f"document.querySelector('[data-pane=a] canvas').toDataURL() !== {json.dumps(before)}")
    links = page.locator("[data-pane=a] .files a")
    assert [links.nth(i).text_content() for i in range(2)] == ["WEBP", "PNG"]
    with page.expect_download() as download:
        links.nth(1).click()
    assert Image.open(download.value.path()).size == (120, 96)


def test_theme_switches_and_a_phone_needs_no_sideways_scrolling(page):
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.scrollWidth <= 360", timeout=5000)
