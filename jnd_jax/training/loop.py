"""The training run: data, steps, validation, checkpoints."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from jnd_jax import codec
from jnd_jax.codec.linear import FOOTPRINT
from jnd_jax.data import cache, pipeline
from jnd_jax.errors import JndError
from jnd_jax.losses import make_loss
from jnd_jax.losses.distances import make_distance
from jnd_jax.training import checkpoint, packaging
from jnd_jax.training.optimizers import learning_rate, make_optimizer
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import TrainState, create_state
from jnd_jax.training.step import LossFn, make_train_step
from jnd_jax.training.validate import choose, make_evaluator

log = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 20
RUN_AHEAD = 2  # steps given to the device before the host waits: keeps it busy, and a SIGTERM prompt


class Stage(NamedTuple):
    """Steps `first` to `last` - 1 of a run, with their crop side and global batch."""

    first: int
    last: int
    crop: int
    batch: int


def stages(config: ConfigDict) -> list[Stage]:
    """The run's stages: `train.stages`, tuples (steps, crop, batch), or one stage of `train.steps`.

    Raises JndError for crops the models cannot take and batches that do not divide among the devices.
    """
    listed = config.train.stages or ((config.train.steps, config.data.crop, config.data.batch),)
    parts = jax.device_count() * config.train.accumulate
    for _, crop, batch in listed:
        if crop <= 0 or crop % FOOTPRINT:
            raise JndError(f"A crop of {crop} cannot be; give data.crop a multiple of {FOOTPRINT}.")
        if batch <= 0 or batch % parts:
            raise JndError(
                f"A batch of {batch} does not divide among {jax.device_count()} devices times "
                f"train.accumulate={config.train.accumulate}; give data.batch a multiple of {parts}."
            )
    ends = np.cumsum([0] + [steps for steps, _, _ in listed])
    return [Stage(int(a), int(b), crop, batch) for a, b, (_, crop, batch) in zip(ends, ends[1:], listed)]


def initial_params(config: ConfigDict, model: nn.Module) -> dict[str, Any]:
    """Parameters from the seed, overlaid with those of `train.init_from` (a model's name or file, or a run's workdir).

    Raises JndError where a parameter of the same path has another shape; parameters that only one side has are named
    in the log.
    """
    x, quality = jnp.zeros((1, 64, 64, 3)), jnp.zeros((1,))
    params = jax.jit(lambda key: model.init(key, x, quality, None)["params"])(jax.random.key(config.seed))
    if not config.train.init_from:
        return params
    source = Path(config.train.init_from).expanduser()
    given = checkpoint.load_params(source) if source.is_dir() else packaging.load_model_params(source)
    ours, theirs = traverse_util.flatten_dict(params, sep="/"), traverse_util.flatten_dict(given, sep="/")
    for path in sorted(ours.keys() & theirs.keys()):
        if ours[path].shape != theirs[path].shape:
            raise JndError(
                f"{path} is {theirs[path].shape} in {source} and {ours[path].shape} in the model; "
                "give the config the sizes of that model."
            )
    for side, extra in (("new", ours.keys() - theirs.keys()), ("unused", theirs.keys() - ours.keys())):
        if extra:
            log.warning("%s parameters beside %s: %s", side, source, ", ".join(sorted(extra)))
    merged = ours | {path: jnp.asarray(theirs[path]) for path in ours.keys() & theirs.keys()}
    return traverse_util.unflatten_dict(merged, sep="/")


def _agreed(flag: bool) -> bool:
    """Whether any process raised its flag: all of them must take the same branch."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, in place of its ending the process; no effect outside the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


class Log:
    """A progress line, `metrics.jsonl`, TensorBoard scalars and pictures; silent on all processes but the first."""

    def __init__(self, workdir: Path, total: int):
        self.total, self.active = total, jax.process_index() == 0
        if self.active:
            self.file = open(workdir / "metrics.jsonl", "a", buffering=1)
            self.board = SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self.active:
            self.file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 1), **values}) + "\n")
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        if self.active:
            for name, pixels in pictures.items():
                self.board.add_image(f"original_decode_error_bits/{name}", pixels, step, dataformats="HWC")

    def line(self, text: str, passing: bool = False) -> None:
        """Print a line; a passing one is overwritten by the next on a terminal."""
        if self.active:
            tty = sys.stdout.isatty()
            print(("\r\033[K" if tty else "") + text, end="" if passing and tty else "\n", flush=True)

    def progress(self, step: int, m: Mapping[str, float], images_per_s: float, steps_per_s: float) -> None:
        left = int((self.total - step) / max(steps_per_s, 1e-9))
        self.line(
            f"step {step}/{self.total}  loss {m['loss']:.4f}  bpp {m['bpp']:.4f}  psnr {m['psnr']:.2f}  "
            f"lr {m['lr']:.2e}  {images_per_s:.1f} img/s  left {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
            + (f"  skipped {m['skipped']:.0f}" if m["skipped"] else ""),
            passing=True,
        )

    def close(self) -> None:
        if self.active:
            self.file.close()
            self.board.close()


def load_data(config: ConfigDict) -> tuple[cache.ImageSet, cache.ImageSet | None, cache.ImageSet]:
    """(training images, their JND partners or None, validation images)."""
    data = config.data
    images = cache.load_images([p for p in data.path.split(",") if p], data.cache or None)
    train, validation = cache.split(images, data.validation_every)
    if not data.jnd_path:
        return train, None, validation
    partners = cache.load_images([p for p in data.jnd_path.split(",") if p], data.cache or None)
    return *cache.pair_by_name(train, partners), validation


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    *,
    model: nn.Module | None = None,
    loss: LossFn | None = None,
    profile: bool = False,
) -> TrainState:
    """Train until the last stage ends or SIGTERM comes, resuming from `workdir` where it holds a checkpoint.

    `model` and `loss` replace those that the config names. Writes checkpoints/, metrics.jsonl, tensorboard/,
    config.json and, at the end, model.safetensors (the averaged parameters). Returns one copy of the last state.
    Raises JndError after 20 steps in a row without a finite gradient; the last checkpoint stays.
    """
    workdir = Path(workdir).expanduser().resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    settings = json.loads(config.to_json_best_effort())
    plan = stages(config)
    total = plan[-1].last
    model = model or codec.build(config.model.to_dict())
    loss = loss or make_loss(config.loss)
    rates = config.train.to_dict() | {"steps": total}
    optimizer = make_optimizer(rates)
    runner = parallelize(
        make_train_step(
            model,
            loss,
            optimizer,
            learning_rate(rates),
            seed=config.seed,
            ema=config.train.ema,
            quality=tuple(config.train.quality),
            lmbda=config.train.lmbda,
            accumulate=config.train.accumulate,
        ),
        config.train.parallel,
    )

    state, examples = create_state(initial_params(config, model), optimizer), 0
    manager = checkpoint.open_manager(workdir, config.checkpoint.keep)
    if manager.latest_step() is not None:
        state, meta = checkpoint.restore(manager, state)
        examples = meta["examples"]
    elif config.train.branch_from:
        with checkpoint.open_manager(config.train.branch_from) as trunk:
            state, meta = checkpoint.restore(trunk, state)
        examples = meta["examples"]
    step = int(state.step)

    train_images, partners, validation = load_data(config)
    data = config.data
    augmentation = pipeline.Augmentation(data.flip, data.rotate, data.downscale)
    evaluate = make_evaluator(
        model,
        choose(validation, config.eval.images, config.eval.max_size),
        config.eval.qualities,
        config.train.lmbda,
        make_distance(config.loss.get("distance", "mse")),
    )
    logger = Log(workdir, total)
    if jax.process_index() == 0:
        (workdir / "config.json").write_text(json.dumps(settings, indent=2))
    count = sum(a.size for a in jax.tree.leaves(state.params))
    logger.line(
        f"{config.model.name}: {count:,} parameters, {len(train_images)} training and {len(validation)} "
        f"validation images, {jax.device_count()} {jax.default_backend()} devices, from step {step} of {total}"
    )

    def validate() -> float:
        score = 0.0
        if logger.active:
            began = time.time()
            result, pictures = evaluate(runner.local(state.ema))
            logger.scalars("eval", step, result)
            logger.pictures(step, pictures)
            logger.line(
                f"step {step} eval  "
                + "  ".join(f"{k} {v:.4f}" for k, v in result.items())
                + f"  ({time.time() - began:.0f} s)"
            )
            score = result["score"]
        return float(multihost_utils.broadcast_one_to_all(np.float32(score)))

    def save(score: float | None = None) -> None:
        checkpoint.save(manager, runner.local(state), settings, examples, score)

    state = runner.replicate(state)
    pending, window = collections.deque(), []
    began, drawn, saved = time.time(), 0, time.time()
    stop, score = False, None
    with _sigterm() as sigterm, contextlib.ExitStack() as tracing:
        for stage in plan:
            if stage.last <= step:
                continue
            source = pipeline.Examples(train_images, stage.crop, config.seed, augmentation, partners)
            feed = pipeline.batches(
                source,
                stage.batch,
                examples,
                stage.last - step,
                process=jax.process_index(),
                processes=jax.process_count(),
                threads=data.threads,
            )
            for batch in feed:
                state, metrics = runner.step(state, runner.shard(batch))
                step, examples, drawn = step + 1, examples + stage.batch, drawn + stage.batch
                window.append(metrics)
                pending.append(metrics["loss"])
                if len(pending) > RUN_AHEAD:
                    jax.block_until_ready(pending.popleft())
                if profile and drawn == 10 * stage.batch:
                    tracing.enter_context(jax.profiler.trace(str(workdir / "profile")))
                if profile and drawn == 15 * stage.batch:
                    jax.block_until_ready(metrics)
                    tracing.close()

                # All processes must agree on when to stop and save, and only meet here.
                meet = step % config.log_every == 0 or step == total
                if meet:
                    fetched = [runner.fetch(m) for m in window]
                    means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
                    means |= {name: fetched[-1][name] for name in ("lr", "skipped", "skipped_in_row")}
                    elapsed = time.time() - began
                    speed = drawn / elapsed
                    logger.scalars("train", step, means | {"images_per_s": speed})
                    logger.progress(step, means, speed, len(window) / elapsed)
                    if max(m["skipped_in_row"] for m in fetched) >= MAX_SKIPPED_IN_ROW:
                        manager.wait_until_finished()
                        raise JndError(
                            f"{MAX_SKIPPED_IN_ROW} steps in a row had no finite gradient (now step {step}); resume "
                            f"from the last checkpoint, step {manager.latest_step()}, with a lower train.learning_rate."
                        )
                    window, drawn = [], 0
                score = validate() if config.eval.every and step % config.eval.every == 0 else None
                if meet or jax.process_count() == 1:
                    stop = _agreed(sigterm.is_set())
                every = config.checkpoint.every_steps
                due = bool(every) and step % every == 0
                if meet and not due:
                    due = _agreed(time.time() - saved > 60 * config.checkpoint.every_minutes)
                if due or stop or score is not None:
                    save(score)
                    saved = time.time()
                if stop:
                    break
                if meet:
                    began = time.time()
            if stop:
                break
    save(None if stop or score is not None else validate())
    manager.wait_until_finished()
    manager.close()
    final = runner.local(state)
    if stop:
        logger.line(f"stopped at step {step} by SIGTERM; run the same command to go on")
    elif jax.process_index() == 0:
        packaging.export_model(settings, final.ema, workdir / "model.safetensors", model=model)
        logger.line(f"wrote {workdir / 'model.safetensors'}")
    logger.close()
    return final
