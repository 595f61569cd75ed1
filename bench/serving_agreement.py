"""How far the SavedModel is from the codec in JAX, on a folder of images at four qualities.

    python bench/serving_agreement.py --data FOLDER [--model MODEL] [--qualities 10,40,70,95] [--limit N]

The images are coded and decoded by JAX; then a process in which importing jax fails exports the model and decodes the
same files: scale indexes and pixels from the entropy-decoded integers, and with the packages of `pip install
'jnd-jax[tfc]'` pixels from the bytes too. Exits with 1 unless all scale indexes are equal, pixels before rounding are
within 1e-5 (of a range of 1), and those after within a level, with 99.5 % of them equal. Images of at most 1024 pixels a side.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "golden" / "tiny.safetensors"
COLUMNS = (
    "quality",
    "images",
    "scale indexes",
    "wrong",
    "float difference",
    "from",
    "equal pixels",
    "largest difference",
)


def write_cases(args: argparse.Namespace, folder: Path, coder: str) -> None:
    """In JAX: a file for each image and quality, with what the codec makes of it."""
    import jax
    import jax.numpy as jnp

    import jnd_jax
    from jnd_jax import bitstream, modelfile
    from jnd_jax import codec as codecs

    model, codec = modelfile.load(modelfile.find(args.model)), jnd_jax.load(args.model)
    network, params = codecs.build(model.config), jax.tree.map(jnp.asarray, model.params)
    synthesis = jax.jit(
        lambda y, quality, blocks: network.apply({"params": params}, y, quality, blocks, method="synthesis")
    )
    for path in sorted(args.data.glob("*.png"))[: args.limit]:
        image = np.asarray(Image.open(path).convert("RGB"))
        for quality in args.qualities:
            file = codec.encode(image, quality, coder=coder)
            header, chunks = bitstream.unpack(file)
            y_hat = codec.decode_latents(header, chunks).y_hat
            h, w = y_hat.shape[:2]
            padded = np.pad(y_hat, [(0, -h % 8), (0, -w % 8), (0, 0)])[None]
            floats = synthesis(padded, jnp.full(1, float(header.quality)), (h, w))[0, : 16 * h, : 16 * w]
            name = folder / f"{quality:g}-{path.stem}"
            name.with_suffix(".jnd").write_bytes(file)
            np.savez(name.with_suffix(".npz"), floats=floats, pixels=codec.decode(file))


def compare(model_path: str, folder: Path) -> bool:
    """Without jax: prints the table; whether all is as it must be."""
    assert sys.modules["jax"] is None
    import tensorflow as tf

    from jnd_jax import bitstream, cli, modelfile
    from jnd_jax.codec import coding
    from jnd_jax.serving import export
    from jnd_jax.serving.decoder import Decoder

    assert cli.main(["export", model_path, "-o", str(folder / "export")]) == 0
    model = modelfile.load(modelfile.find(model_path))
    served, decoder = tf.saved_model.load(str(folder / "export")).signatures, Decoder(model)
    coder = coding.latent_coder(model.params, model.tables)
    rows = {}
    for path in sorted(folder.glob("*.jnd")):
        file, expected = path.read_bytes(), np.load(path.with_suffix(".npz"))
        header, chunks = bitstream.unpack(file)
        h, w = (-(-side // 64) for side in (header.height, header.width))
        z = coder.decode_z(chunks["z"], h, w, header.quality, header.coder)
        latents = coder.decode_y(chunks["y"], z, header.quality, header.coder)
        z, symbols, wrong = z[None].astype(np.int8), latents.symbols[None].astype(np.int16), 0
        sides = {"quality": header.quality, "height": header.height, "width": header.width}
        sides = {name: np.array([value], np.int32) for name, value in sides.items()}
        for number, expected_indexes in enumerate(export.of_passes(coder, latents.indexes[None])):
            known = export.before(coder, symbols, number)
            indexes = served["hyper"](z=z, quality=sides["quality"], symbols=known, number=tf.constant(number))[
                "indexes"
            ]
            wrong += np.sum(indexes.numpy() != expected_indexes)
        y_hat = decoder.gained_latents(symbols.astype(np.int32), z.astype(np.int32))
        floats = decoder.synthesis(y_hat, sides["quality"]).numpy()[0]
        images = {"integers": served["synthesize"](symbols=symbols, z=z, **sides)["images"].numpy()[0]}
        if "decode" in served:
            images["bytes"] = served["decode"](data=tf.constant(file))["image"].numpy()
        for kind, image in images.items():
            difference = np.abs(image.astype(int) - expected["pixels"])
            rows.setdefault((header.quality, kind), []).append(
                (
                    latents.indexes.size,
                    wrong,
                    np.abs(floats - expected["floats"]).max(),
                    np.mean(difference == 0),
                    difference.max(),
                )
            )
    print(f"TensorFlow {tf.__version__}, model {model.name} {model.hash}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    good = True
    for (quality, kind), values in sorted(rows.items()):
        size, wrong, floats, equal, largest = map(np.array, zip(*values))
        print(
            f"| {quality / 10:g} | {len(values)} | {size.sum()} | {wrong.sum()} | {floats.max():.1e} | {kind} | "
            f"{equal.min():.4%} and more | {largest.max()} |"
        )
        good &= bool(wrong.sum() == 0 and floats.max() <= 1e-5 and equal.min() >= 0.995 and largest.max() <= 1)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of PNG images")
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument(
        "--qualities", type=lambda text: [float(part) for part in text.split(",")], default=[10, 40, 70, 95]
    )
    parser.add_argument("--limit", type=int, help="of the images, the first so many")
    args = parser.parse_args()
    coder = "tfc" if importlib.util.find_spec("tensorflow_compression_ops") else "constriction"
    with tempfile.TemporaryDirectory() as name:
        write_cases(args, Path(name), coder)
        program = (
            "import sys; sys.modules['jax'] = None; from pathlib import Path; from bench import serving_agreement; "
            "sys.exit(not serving_agreement.compare(sys.argv[1], Path(sys.argv[2])))"
        )
        return subprocess.run([sys.executable, "-c", program, args.model, name], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
