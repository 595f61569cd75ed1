"""ONNX Runtime and the browser's decoder against the codec: indexes, symbols, pixels, and times.

    (cd web && npm ci && npm run build)
    python bench/browser_agreement.py --data photos/ --model jnd-perceptual

Each photo is encoded at the qualities 10, 40, 70 and 95 and decoded by the codec, by the exported ONNX models in
onnxruntime (on the CPU) and by the built decoder in a headless Chromium. Times are of the second and later decodings
in a page that has the model, with the preview's beside them; "CPU" is the time that the page's process computed, which
other processes of the machine disturb less.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

import jnd_jax
from jnd_jax import bitstream, images, modelfile
from jnd_jax.cli import main as jnd
from jnd_jax.codec import coding
from jnd_jax.serving import export as exporting
from jnd_jax.serving import onnx_models

QUALITIES = (10, 40, 70, 95)
PAGE = """<!doctype html><script type="module">
import * as jnd from "./index.js";
const models = new jnd.Models(new URL("models.json", location.href).href);
const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
let file, decoder, decoded;
window.open_ = async (name) => {
  file = await bytes(name + ".jnd");
  const start = performance.now();
  decoder = await models.decoder(jnd.readHeader(file).model);
  return performance.now() - start;
};
window.decode = async () => {
  const start = performance.now();
  let preview;
  decoded = await decoder.decode(file, () => (preview = performance.now()));
  return { preview: preview - start, whole: performance.now() - start };
};
window.compare = async (name) => {
  const pixels = await bytes(name + ".rgb");
  let [largest, equal] = [0, 0];
  for (let i = 0, j = 0; j < pixels.length; j++, i += j % 3 ? 1 : 2) {
    const difference = Math.abs(decoded.data[i] - pixels[j]);
    largest = Math.max(largest, difference);
    equal += difference === 0;
  }
  const digest = await crypto.subtle.digest("SHA-256", decoded.symbols);
  const symbols = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { symbols, largest, equal: equal / pixels.length };
};
</script>"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write_cases(paths: list[Path], name: str, folder: Path) -> dict[str, dict]:
    """Writes NAME.jnd and NAME.rgb of each photo and quality; how far onnxruntime is from the codec, and the symbols."""
    codec, model = jnd_jax.load(name), modelfile.load(modelfile.find(name))
    coder = coding.latent_coder(model.params, model.tables)
    runner = onnx_models.Runner({name: graph.SerializeToString() for name, graph in onnx_models.graphs(model).items()})
    cases = {}
    for path in paths:
        photo = images.read_image(path).pixels
        for quality in QUALITIES:
            data = codec.encode(photo, quality)
            header, chunks = bitstream.unpack(data)
            latents, decoded = codec.decode_latents(header, chunks), codec.decode(data)
            h, w = (side // 4 for side in latents.symbols.shape[:2])
            z = coder.decode_z(chunks["z"], h, w, header.quality)[None].astype(np.int32)
            parts, q = exporting.of_passes(coder, latents.symbols[None]), np.full((1, 1, 1), header.quality, np.int32)
            got = runner.latents(z, q, lambda number, _: parts[number])
            pixels = runner.images(got.y_hat, q, header.height, header.width)[0]
            case = f"{path.stem}-{quality}"
            (folder / f"{case}.jnd").write_bytes(data)
            (folder / f"{case}.rgb").write_bytes(decoded.tobytes())
            cases[case] = {
                "symbols": hashlib.sha256(latents.symbols.astype("<i2").tobytes()).hexdigest(),
                "indexes": latents.indexes.size,
                "wrong": int(np.sum(got.indexes[0] != latents.indexes)),
                **exporting.compare_pixels(pixels, decoded),
            }
    return cases


def measure(page: Page, processes: CDPSession, name: str) -> dict[str, Any]:
    """Decodes NAME.jnd in the page: how far it is from NAME.rgb, its symbols, and milliseconds."""

    def computed() -> float:
        info = processes.send("SystemInfo.getProcessInfo")["processInfo"]
        return 1000 * sum(process["cpuTime"] for process in info if process["type"] == "renderer")

    model = page.evaluate(f"open_('{name}')")
    before = computed()
    times = page.evaluate("decode()")
    cpu = computed() - before
    return times | {"model": model, "cpu": cpu} | page.evaluate(f"compare('{name}')")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--model", required=True, help="name or file of the model")
    parser.add_argument("--browser", default="/usr/bin/chromium-headless-shell", help="(default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        site = Path(work) / "site"
        jnd(["web", str(site), "--model", args.model])
        (site / "run.html").write_text(PAGE)
        cases = write_cases(sorted(args.data.glob("*.png")), args.model, site)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=site))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
        page, processes = browser.new_page(), browser.new_browser_cdp_session()
        page.goto(f"http://127.0.0.1:{server.server_port}/run.html")
        page.wait_for_function("() => Boolean(window.compare)")
        results = {name: measure(page, processes, name) for name in cases}
        sizes = {path.name: path.stat().st_size for path in site.iterdir() if path.suffix in (".js", ".web")}
    ours, theirs = list(cases.values()), list(results.values())
    times = lambda key: [result[key] for result in theirs[1:]]
    report = {
        "files": len(cases),
        "onnxruntime": {
            "indexes": sum(case["indexes"] for case in ours),
            "wrong": sum(case["wrong"] for case in ours),
            "largest difference": max(case["largest_difference"] for case in ours),
            "equal, least": min(case["equal"] for case in ours),
        },
        "browser": {
            "files with other symbols": sum(cases[name]["symbols"] != results[name]["symbols"] for name in cases),
            "largest difference": max(result["largest"] for result in theirs),
            "equal, least": min(result["equal"] for result in theirs),
            "model ms": round(theirs[0]["model"]),
            "first picture ms": round(theirs[0]["whole"]),
            "preview ms, median and least": [round(np.median(times("preview"))), round(min(times("preview")))],
            "picture ms, median and least": [round(np.median(times("whole"))), round(min(times("whole")))],
            "picture CPU ms, median and least": [round(np.median(times("cpu"))), round(min(times("cpu")))],
        },
        "bytes": sizes,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
