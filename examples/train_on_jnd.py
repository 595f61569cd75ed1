"""Train a small classifier from folders of .jnd files, and compare how fast they are read with JPEG and AVIF.

    pip install 'jnd-jax[train]'
    python examples/train_on_jnd.py --work /tmp/crops

The images are crops of the photographs in scikit-image, the class is the photograph a crop was taken from: a task that
needs no download. Your own folders, one a class, are read in the same way. `load` is all that a reader needs to know of
the format: the same function serves `torch.utils.data`, Hugging Face datasets and `tf.data` (docs/pillow.md).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from skimage import data

import jnd_jax.pillow  # noqa: F401  Image.open and Image.save know .jnd from here on

SIDE, CROPS, BATCH = 128, 12, 12
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
FORMATS = {"jnd": {"quality": 50}, "jpg": {"quality": 75}, "avif": {"quality": 60}}


def write_crops(folder: Path) -> None:
    """Folders FORMAT/PHOTO/ of random crops, the same in each format."""
    rng = np.random.default_rng(0)
    for name in PHOTOS:
        photo = getattr(data, name)()
        for i in range(CROPS):
            top, left = (rng.integers(side - SIDE) for side in photo.shape[:2])
            crop = Image.fromarray(photo[top : top + SIDE, left : left + SIDE])
            for suffix, options in FORMATS.items():
                path = folder / suffix / name / f"{i:02}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                crop.save(path, **options)


def load(path: Path) -> dict[str, np.ndarray]:
    """Pixels and class of one file, whatever its format."""
    with Image.open(path) as image:
        return {"image": np.asarray(image.convert("RGB")), "label": np.int32(PHOTOS.index(path.parent.name))}


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = images.astype(jnp.float32) / 255 - 0.5
        for width in (16, 32, 64):
            x = nn.relu(nn.Conv(width, (3, 3), strides=2)(x))
        return nn.Dense(len(PHOTOS))(x.mean((1, 2)))


def train(paths: list[Path], epochs: int) -> float:
    """Accuracy on every fourth file after training on the others."""
    held_out = paths[::4]
    rest = [path for path in paths if path not in set(held_out)]
    source = grain.MapDataset.source(rest).shuffle(seed=0).map(load).repeat(epochs).batch(BATCH, drop_remainder=True)
    model, optimizer = Classifier(), optax.adam(3e-3)
    params = model.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, batch):
        def loss(params):
            logits = model.apply(params, batch["image"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for batch in source.to_iter_dataset():
        params, state = step(params, state, batch)
    examples = [load(path) for path in held_out]
    logits = model.apply(params, np.stack([example["image"] for example in examples]))
    labels = np.array([example["label"] for example in examples])
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the crops; what is there is used again")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    if not args.work.exists():
        write_crops(args.work)
    for suffix in FORMATS:
        paths = sorted((args.work / suffix).glob(f"*/*.{suffix}"))
        load(paths[0])
        start = time.process_time()
        for path in paths:
            load(path)
        rate = len(paths) / (time.process_time() - start)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        accuracy = train(paths, args.epochs)
        print(f"{suffix:4}  {size:6.0f} bytes an image  {rate:7.1f} images per CPU second  accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
