"""The browser's decoder in a headless Chromium against Python's."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import jnd_jax
from jnd_jax import bitstream, images, zoo
from jnd_jax.cli import main
from tests.evaluation.browser import chromium
from tests.streams import reseal

DIST = Path(__file__).parent.parent.parent / "web" / "dist"

PAGE = """<!doctype html><script type="module">
import * as jnd from "./index.js";
const models = new jnd.Models(new URL("models.json", location.href).href);
window.decode = async (name) => {
  const file = new Uint8Array(await (await fetch(name)).arrayBuffer());
  try {
    const decoder = await models.decoder(jnd.readHeader(file).model);
    let preview;
    const decoded = await decoder.decode(file, (small) => (preview = [small.width, small.height, ...small.data]));
    const digest = await crypto.subtle.digest("SHA-256", decoded.symbols);
    return { data: [...decoded.data], symbols: [...new Uint8Array(digest)], preview };
  } catch (error) {
    return { error: error.message };
  }
};
window.model = (url, sha256) => jnd.modelBytes(url, sha256).then((data) => data.byteLength, (error) => error.message);
</script>"""


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    return block.tobytes().removeprefix(b"Exif\0\0")


def photo(height: int, width: int) -> np.ndarray:
    return images.read_image(zoo.FOLDER / "chelsea.png").pixels[20 : 20 + height, 30 : 30 + width]


def write_files(folder: Path, codec) -> dict[str, bytes]:
    """Files of every kind by name."""
    mask = np.zeros((90, 140), np.uint8)
    mask[:50, :60] = 255
    alpha = (1 + np.arange(70 * 60) % 255).astype(np.uint8).reshape(70, 60)
    extras = lambda **parts: images.to_chunks(images.Picture(photo(70, 60), **parts))
    files = {
        "low": codec.encode(photo(64, 128), 10),
        "odd": codec.encode(photo(77, 131), 60),
        "high": codec.encode(photo(1, 300), 100),
        "region": codec.encode(photo(90, 140), 20, mask=mask, region_quality=90),
        "alpha": codec.encode(photo(70, 60), 40, extras=extras(alpha=alpha)),
        "turned": codec.encode(photo(70, 60), 40, extras=extras(exif=exif(6))),
        "grey": codec.encode(photo(70, 60)[..., 0], 40),
        "bounded": codec.encode(photo(70, 60), policy="medical"),
    }
    for name, data in files.items():
        (folder / f"{name}.jnd").write_bytes(data)
    return files


@pytest.fixture(scope="module")
def site(tmp_path_factory, golden_model) -> Iterator[tuple[str, dict[str, bytes], Path]]:
    """Address of what `jnd-jax web` wrote, with more files, and these."""
    if not (DIST / "index.js").is_file():
        pytest.skip("needs `npm ci && npm run build` in web/")
    folder = tmp_path_factory.mktemp("site") / "page"
    assert main(["web", str(folder), "--model", str(golden_model)]) == 0
    files = write_files(folder, jnd_jax.load(str(golden_model)))
    (folder / "test.html").write_text(PAGE)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files, folder
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(site, browser):
    page = browser.new_page()
    page.goto(f"{site[0]}/test.html")
    page.wait_for_function("() => Boolean(window.decode)")
    return page


NAMES = ("low", "odd", "high", "region", "alpha", "turned", "grey", "bounded")


@pytest.mark.parametrize("name", NAMES)
def test_symbols_are_the_same_and_pixels_within_a_level(site, page, golden_model, name):
    data = site[1][name]
    codec = jnd_jax.load(str(golden_model))
    header, chunks = bitstream.unpack(data)
    expected = images.from_chunks(codec.decode(data), chunks)
    got = page.evaluate(f"decode('{name}.jnd')")
    assert "error" not in got, got["error"]
    symbols = codec.decode_latents(header, chunks).symbols.astype("<i2")
    assert bytes(got["symbols"]) == hashlib.sha256(symbols.tobytes()).digest()
    rgba = np.array(got["data"], np.uint8).reshape(header.height, header.width, 4)
    pixels = expected.pixels if expected.pixels.ndim == 3 else np.repeat(expected.pixels[..., None], 3, 2)
    difference = np.abs(rgba[..., :3].astype(int) - pixels)
    assert difference.max() <= 1 and np.mean(difference == 0) >= 0.999
    assert np.array_equal(rgba[..., 3], np.full_like(rgba[..., 3], 255) if expected.alpha is None else expected.alpha)
    width, height, *preview = got["preview"]
    assert (width, height) == (-(-header.width // 16), -(-header.height // 16))
    if name == "low":
        means = pixels.reshape(height, 16, width, 16, 3).mean((1, 3))
        assert np.abs(np.array(preview).reshape(height, width, 4)[..., :3] - means).mean() < 8


def damaged(data: bytes) -> dict[str, tuple[bytes, str]]:
    flipped = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    large = reseal(data[:16] + (60000).to_bytes(2, "little") + (4000).to_bytes(2, "little") + data[20:])
    return {
        "header": (data[:17] + b"\xff" + data[18:], "head is damaged"),
        "head": (data[:40], "inside its head"),
        "newer": (data[:4] + b"\x04" + data[5:], "newer format"),
        "cut": (data[:-1], "inside its chunk"),
        "longer": (data + b"\0", "follow the end"),
        "flipped": (flipped, "is damaged"),
        "resealed": (reseal(data[:-400] + bytes(400)), "damaged"),
        "large": (large, "too short"),
        "other": (reseal(data[:8] + bytes(8) + data[16:]), "is not on this site"),
        "none": (b"<html>", "no .jnd file"),
    }


def test_damaged_files_are_refused(site, page):
    address, files, folder = site
    for name, (data, message) in damaged(files["odd"]).items():
        (folder / f"{name}.jnd").write_bytes(data)
        got = page.evaluate(f"decode('{name}.jnd')")
        assert message in got.get("error", "an image"), name
    # The decoder goes on.
    assert "data" in page.evaluate("decode('odd.jnd')")


def test_an_image_for_which_there_is_no_room_is_named(site, page):
    page.evaluate("""() => {
      window.kept = Uint8ClampedArray;
      window.Uint8ClampedArray = function () { throw new RangeError("Array buffer allocation failed"); };
    }""")
    assert "too large" in page.evaluate("decode('grey.jnd')").get("error", "an image")
    page.evaluate("() => { window.Uint8ClampedArray = window.kept; }")
    assert "data" in page.evaluate("decode('grey.jnd')")


def test_a_model_is_checked_by_its_hash(site, page):
    folder = site[2]
    (folder / "model").write_bytes(b"model")
    right = hashlib.sha256(b"model").hexdigest()
    assert "damaged" in page.evaluate(f"model(location.origin + '/model', '{right[::-1]}')")
    assert page.evaluate(f"model(location.origin + '/model', '{right}')") == 5
    # From now on it comes from the cache.
    (folder / "model").unlink()
    assert page.evaluate(f"model(location.origin + '/model', '{right}')") == 5


def test_the_element_shows_images_upright(site, browser):
    address, _, folder = site
    (folder / "element.html").write_text(
        '<!doctype html><script type="module" src="element.js"></script><script>window.told = []</script>'
        "<jnd-img src=\"turned.jnd\" alt=\"A cat\"></jnd-img><script>for (const name of ['preview', 'load', 'error'])"
        "document.querySelector('jnd-img').addEventListener(name, () => told.push(name))</script>"
    )
    page = browser.new_page()
    page.goto(f"{address}/element.html")
    page.wait_for_function("told.includes('load') || told.includes('error')", timeout=60_000)
    assert page.evaluate("told") == ["preview", "load"]
    shown = "(({naturalWidth, naturalHeight, alt}) => [naturalWidth, naturalHeight, alt])"
    assert page.evaluate(f"{shown}(document.querySelector('jnd-img').shadowRoot.querySelector('img'))") == [
        70,
        60,
        "A cat",
    ]


def test_the_service_worker_makes_plain_images_work(site, browser):
    address, _, folder = site
    (folder / "plain.html").write_text(
        '<!doctype html><script type="module">await navigator.serviceWorker.register("service-worker.js");'
        "if (!navigator.serviceWorker.controller) await new Promise((done) => (navigator.serviceWorker.oncontrollerchange = done));"
        'const image = new Image(); image.src = "turned.jnd"; await image.decode();'
        "window.size = [image.naturalWidth, image.naturalHeight]</script>"
    )
    page = browser.new_page()
    page.goto(f"{address}/plain.html")
    page.wait_for_function("window.size", timeout=60_000)
    assert page.evaluate("size") == [70, 60]


def test_the_demo_compares_with_a_jpeg_of_as_many_bytes(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{site[0]}/index.html")
    page.wait_for_function("document.getElementById('stage').classList.contains('compared')", timeout=60_000)
    assert page.inner_text("#right").startswith("JPEG, ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] / 4, stage["y"] + 20)
    page.mouse.down()
    assert page.input_value("#slider") == "25"
    page.mouse.up()
    page.set_input_files("#files", str(site[2] / "models.json"))
    page.wait_for_function("document.getElementById('message').textContent")
    assert page.inner_text("#message") == "Give a .jnd file."
