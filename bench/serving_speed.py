"""Time to decode a photo, a batch of 1 and of 8: the codec in JAX, and the same model as a SavedModel in TensorFlow.

    python bench/serving_speed.py [--model MODEL] [--size 768x512] [--image PHOTO] [--repeats 5]

From entropy-decoded integers to uint8 pixels, both in this process, in turns, warm, on the same cores; with the packages
of `pip install 'jnd-jax[tfc]'` also from the bytes of .jnd files. The figures are medians for one image.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import numpy as np
import tensorflow as tf
from PIL import Image

import jnd_jax
from jnd_jax import bitstream, modelfile, zoo
from jnd_jax.codec import coding
from jnd_jax.serving import saved_model
from jnd_jax.serving.stablehlo import synthesize

MODEL = Path(__file__).parents[1] / "tests" / "golden" / "tiny.safetensors"
BATCH = 8


def decoders(path: str, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """By name, functions that decode the image once, or BATCH times at once."""
    model, codec = modelfile.load(modelfile.find(path)), jnd_jax.load(path)
    height, width = image.shape[:2]
    root, functions = saved_model.signatures(model, plain=False, max_pixels=BATCH * height * width, image_format="png")
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(root, folder, functions)
        loaded = tf.saved_model.load(folder)
    served = loaded.signatures
    coder = "tfc" if "decode" in served else "constriction"
    file = codec.encode(image, 50, coder=coder)
    header, chunks = bitstream.unpack(file)
    h, w = (-(-side // 64) for side in (height, width))
    z = coding.latent_coder(model.params, model.tables).decode_z(chunks["z"], h, w, header.quality, coder)
    latents = codec.decode_latents(header, chunks)
    integers = {
        "symbols": latents.symbols[None].astype(np.int32),
        "z": z[None].astype(np.int32),
        "quality": np.array([header.quality], np.int32),
    }
    sides = {"height": np.array([height], np.int32), "width": np.array([width], np.int32)}
    request = integers | sides | {"symbols": integers["symbols"].astype(np.int16), "z": integers["z"].astype(np.int8)}
    repeat = lambda inputs, count: {name: np.repeat(value, count, axis=0) for name, value in inputs.items()}
    in_jax = jax.jit(synthesize(model, height, width))
    keep = lambda function: lambda: (loaded, function())[1]
    work = {}
    for count in (1, BATCH):
        inputs = repeat(integers, count)
        constants = {name: tf.constant(value) for name, value in repeat(request, count).items()}
        work[f"integers, JAX, {count}"] = lambda inputs=inputs: in_jax(**inputs).block_until_ready()
        work[f"integers, SavedModel, {count}"] = keep(
            lambda constants=constants: served["synthesize"](**constants)["images"].numpy()
        )
    if coder == "tfc":
        work["bytes, JAX, 1"] = lambda: codec.decode(file)
        work["bytes, SavedModel, 1"] = keep(lambda: served["decode"](data=tf.constant(file))["image"].numpy())
        work[f"bytes, JAX, {BATCH}"] = lambda: [codec.decode(file) for _ in range(BATCH)]
        work[f"bytes, SavedModel, {BATCH}"] = keep(
            lambda: served["decode_batch"](data=tf.constant([file] * BATCH))["images"].numpy()
        )
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--image", type=Path, default=zoo.FOLDER / "chelsea.png")
    parser.add_argument(
        "--size", default="768x512", metavar="WxH", help="to which it is resized (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    image = np.asarray(Image.open(args.image).convert("RGB").resize(tuple(map(int, args.size.split("x")))))
    work = decoders(args.model, image)
    seconds = {name: [] for name in work}
    for turn in range(args.repeats + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) / int(name.rpartition(" ")[2]) for name, times in seconds.items()}
    print(
        f"{Path(args.model).name}, {args.size}, jax {jax.__version__}, TensorFlow {tf.__version__}, {jax.default_backend()}"
    )
    print("\n| from | batch | JAX, ms an image | SavedModel, ms an image | SavedModel / JAX |\n|---|---|---|---|---|")
    for kind in dict.fromkeys(name.split(",")[0] for name in work):
        for count in (1, BATCH):
            ours, theirs = median[f"{kind}, JAX, {count}"], median[f"{kind}, SavedModel, {count}"]
            print(f"| {kind} | {count} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} | {theirs / ours:.2f} |")
        ratios = [median[f"{kind}, {what}, {BATCH}"] / median[f"{kind}, {what}, 1"] for what in ("JAX", "SavedModel")]
        print(f"| {kind} | {BATCH} / 1 | {ratios[0]:.2f} | {ratios[1]:.2f} | |")


if __name__ == "__main__":
    main()
