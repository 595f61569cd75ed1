"""ONNX Runtime and the browser's decoder against the codec: indexes, symbols, pixels, and times.

    (cd web && npm ci && npm run build)
    python bench/browser_agreement.py --data photos/ --model jnd-perceptual
    python bench/browser_agreement.py --data large/ --model jnd-perceptual --qualities 40 --no-onnx

Each photo is encoded at each quality and decoded by the codec, by the exported ONNX models in onnxruntime (on the CPU)
and by the built decoder in a headless Chromium. Times are of decodings in a page that has the model, the first left out
where there are others, with the preview's beside them; "CPU" is the time that the page's process computed, which other
processes of the machine disturb less. The memory is that of the page's process at its peak (on Linux). `--no-onnx`
leaves out onnxruntime, which takes a photo in one piece: it has no room for large ones.
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


def write_cases(paths: list[Path], qualities: list[float], codec: jnd_jax.ImageCodec, folder: Path) -> dict[str, str]:
    """Writes NAME.jnd and NAME.rgb of each photo and quality; the SHA-256 of the symbols of each name."""
    digests = {}
    for path in paths:
        photo = images.read_image(path).pixels
        for quality in qualities:
            name, data = f"{path.stem}-{quality:g}", codec.encode(photo, quality)
            (folder / f"{name}.jnd").write_bytes(data)
            (folder / f"{name}.rgb").write_bytes(codec.decode(data).tobytes())
            symbols = codec.decode_latents(*bitstream.unpack(data)).symbols
            digests[name] = hashlib.sha256(symbols.astype("<i2").tobytes()).hexdigest()
    return digests


def run_onnx(names: list[str], codec: jnd_jax.ImageCodec, model: modelfile.ModelFile, folder: Path) -> dict[str, Any]:
    """How far onnxruntime is from the codec on what `write_cases` wrote."""
    coder = coding.latent_coder(model.params, model.tables)
    runner = onnx_models.Runner({name: graph.SerializeToString() for name, graph in onnx_models.graphs(model).items()})
    indexes, wrong, compared = 0, 0, []
    for name in names:
        header, chunks = bitstream.unpack((folder / f"{name}.jnd").read_bytes())
        latents = codec.decode_latents(header, chunks)
        h, w = (side // 4 for side in latents.symbols.shape[:2])
        z = coder.decode_z(chunks["z"], h, w, header.quality)[None].astype(np.int32)
        parts, q = exporting.of_passes(coder, latents.symbols[None]), np.full((1, 1, 1), header.quality, np.int32)
        got = runner.latents(z, q, lambda number, _: parts[number])
        pixels = runner.images(got.y_hat, q, header.height, header.width)[0]
        expected = np.frombuffer((folder / f"{name}.rgb").read_bytes(), np.uint8).reshape(pixels.shape)
        indexes += latents.indexes.size
        wrong += int(np.sum(got.indexes[0] != latents.indexes))
        compared.append(exporting.compare_pixels(pixels, expected))
    return {
        "indexes": indexes,
        "wrong": wrong,
        "largest difference": max(each["largest_difference"] for each in compared),
        "equal, least": min(each["equal"] for each in compared),
    }


def renderers(processes: CDPSession) -> list[dict]:
    info = processes.send("SystemInfo.getProcessInfo")["processInfo"]
    return [process for process in info if process["type"] == "renderer"]


def peak_memory(processes: CDPSession) -> int | None:
    """MB of the largest page's process at its peak; None where the system does not say."""
    status = [Path(f"/proc/{process['id']}/status") for process in renderers(processes)]
    lines = [line for path in status if path.exists() for line in path.read_text().splitlines()]
    return max((int(line.split()[1]) * 1024 // 10**6 for line in lines if line.startswith("VmHWM")), default=None)


def measure(page: Page, processes: CDPSession, name: str) -> dict[str, Any]:
    """Decodes NAME.jnd in the page: how far it is from NAME.rgb, its symbols, and milliseconds."""
    computed = lambda: 1000 * sum(process["cpuTime"] for process in renderers(processes))
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
    parser.add_argument("--qualities", type=float, nargs="+", default=[10, 40, 70, 95], help="(default: %(default)s)")
    parser.add_argument("--onnx", action=argparse.BooleanOptionalAction, default=True, help="(default: %(default)s)")
    args = parser.parse_args()
    codec, model = jnd_jax.load(args.model), modelfile.load(modelfile.find(args.model))
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        site = Path(work) / "site"
        jnd(["web", str(site), "--model", args.model])
        (site / "run.html").write_text(PAGE)
        digests = write_cases(sorted(args.data.glob("*.png")), args.qualities, codec, site)
        onnx = run_onnx(list(digests), codec, model, site) if args.onnx else None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=site))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
        page, processes = browser.new_page(), browser.new_browser_cdp_session()
        page.goto(f"http://127.0.0.1:{server.server_port}/run.html")
        page.wait_for_function("() => Boolean(window.compare)")
        results = {name: measure(page, processes, name) for name in digests}
        memory = peak_memory(processes)
        sizes = {path.name: path.stat().st_size for path in site.iterdir() if path.suffix in (".js", ".web")}
    theirs = list(results.values())
    times = lambda key: [result[key] for result in theirs[1:] or theirs]
    report = {
        "files": len(digests),
        "onnxruntime": onnx,
        "browser": {
            "files with other symbols": sum(digests[name] != results[name]["symbols"] for name in digests),
            "largest difference": max(result["largest"] for result in theirs),
            "equal, least": min(result["equal"] for result in theirs),
            "model ms": round(theirs[0]["model"]),
            "first picture ms": round(theirs[0]["whole"]),
            "preview ms, median and least": [round(np.median(times("preview"))), round(min(times("preview")))],
            "picture ms, median and least": [round(np.median(times("whole"))), round(min(times("whole")))],
            "picture CPU ms, median and least": [round(np.median(times("cpu"))), round(min(times("cpu")))],
            "memory at its peak, MB": memory,
        },
        "bytes": sizes,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
