"""The training run: data, steps, validation, checkpoints."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from jnd_jax import codec
from jnd_jax.data import cache, pipeline
from jnd_jax.errors import JndError
from jnd_jax.losses import make_loss
from jnd_jax.losses.combine import Loss
from jnd_jax.training import ahead, checkpoint, packaging, settings
from jnd_jax.training.log import Log, scores
from jnd_jax.training.optimizers import learning_rate
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import TrainState, create_state
from jnd_jax.training.step import Step, step_of
from jnd_jax.training.validate import choose, make_evaluator

log = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 20
RUN_AHEAD = 2  # steps given to the device before the host waits: keeps it busy, and a SIGTERM prompt
PROFILED = range(10, 15)  # steps of the run, counted from its start or resumption


def initial_params(config: ConfigDict, model: nn.Module) -> dict[str, Any]:
    """Parameters from the seed, overlaid with those of `train.init_from` (a model's name or file, or a run's workdir).

    Parameters that only one side has are named in the log.

    Raises:
        JndError: a parameter of the same path has another shape.
    """
    x, quality, key = jnp.zeros((1, 64, 64, 3)), jnp.zeros((1,)), jax.random.key(config.seed)

    def init(key: jax.Array) -> Any:
        return model.init(key, x, quality, None)["params"]

    # It runs once: what a CPU's compiler would take to make it faster is never won back.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    initialise = jax.jit(init, compiler_options=options)
    if not config.train.init_from:
        return initialise(key)
    source = Path(config.train.init_from).expanduser()
    given = checkpoint.load_params(source) if source.is_dir() else packaging.load_model_params(source)
    ours: Any = traverse_util.flatten_dict(jax.eval_shape(init, key), sep="/")
    theirs: Any = traverse_util.flatten_dict(given, sep="/")
    for path in sorted(ours.keys() & theirs.keys()):
        if ours[path].shape != theirs[path].shape:
            raise JndError(
                f"{path} is {theirs[path].shape} in {source} and {ours[path].shape} in the model; "
                "give the config the sizes of that model."
            )
    new, unused = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    for side, extra in (("new", new), ("unused", unused)):
        if extra:
            log.warning("%s parameters beside %s: %s", side, source, ", ".join(sorted(extra)))
    if new:  # compiling the initialisation takes a while: only where something is left to it
        ours = traverse_util.flatten_dict(initialise(key), sep="/")
    merged = jax.device_put({path: theirs.get(path, value) for path, value in ours.items()})
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


def load_data(config: ConfigDict) -> tuple[tuple[cache.ImageSet, cache.ImageSet | None], ...]:
    """(images, their JND partners or None) to train with, and such a pair to validate with."""
    data = config.data
    folders = lambda path: [folder for folder in path.split(",") if folder]
    images = cache.load_images(folders(data.path), data.cache or None)
    if not data.jnd_path:
        return tuple((part, None) for part in cache.split(images, data.validation_every))
    images, partners = cache.pair_by_name(images, cache.load_images(folders(data.jnd_path), data.cache or None))
    return tuple(zip(cache.split(images, data.validation_every), cache.split(partners, data.validation_every)))


class Run:
    """A run in its workdir: what it trains, and where it stands.

    Attributes:
        model: see `train_and_evaluate`.
        state: replicated over all devices.
        rate: step -> learning rate.
        step, examples: steps done, and examples drawn for them.
        scores: of the validations, by step.
    """

    def __init__(self, config: ConfigDict, workdir: Path, model: nn.Module | None, loss: Loss | None):
        settings.check(config)
        self.config, self.workdir, self.plan = config, workdir, settings.stages(config, jax.device_count())
        self.model, loss = model or codec.build(config.model.to_dict()), loss or make_loss(config.loss)
        self.settings = json.loads(config.to_json_best_effort())
        self.settings["model"] = json.loads(json.dumps(codec.describe(self.model)))
        self.training, self.validation = load_data(config)
        optimizer, step = step_of(config, self.model, loss)
        self.rate = learning_rate(config.train.to_dict() | {"steps": self.plan[-1].last})
        self.runner = parallelize(step, config.train.parallel)
        evaluation = config.eval
        self.evaluate = make_evaluator(
            self.model,
            choose(*self.validation, evaluation.images, evaluation.max_size),
            evaluation.qualities,
            loss,
            config.train.lmbda,
        )
        self._start(create_state(initial_params(config, self.model), optimizer))

    def _start(self, state: TrainState) -> None:
        """Take up the last checkpoint of the workdir, or of the run to branch from, where there is one."""
        trunk = self.config.train.branch_from
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.scores: dict[int, float] = {}
        self.examples = 0
        self.manager = checkpoint.open_manager(self.workdir, self.config.checkpoint.keep, self.scores)
        if self.manager.latest_step() is not None:
            state, self.examples = checkpoint.restore(self.manager, state, self.settings)
        elif trunk:
            with checkpoint.read_manager(trunk) as manager:
                state, self.examples = checkpoint.restore(manager, state, self.settings)
        self.step, self.saved = int(state.step), time.time()
        self.scores |= scores(self.workdir, self.step)
        self.logger = Log(self.workdir, self.step, self.plan[-1].last)
        if jax.process_index() == 0:
            (self.workdir / "config.json").write_text(json.dumps(self.settings, indent=2))
        self.parameters = sum(a.size for a in jax.tree.leaves(state.params))
        self.state = self.runner.replicate(state)

    def greet(self) -> None:
        """Say what is trained, from what, on what."""
        training, validation = len(self.training[0]), len(self.validation[0])
        if validation == training:
            self.logger.line(
                f"all {training} images both train and validate: there are fewer than data.validation_every"
            )
        self.logger.line(
            f"{self.settings['model']['name']}: {self.parameters:,} parameters, {training} training and {validation} "
            f"validation images, {jax.device_count()} {jax.default_backend()} devices, from step {self.step} of "
            f"{self.plan[-1].last}"
        )

    def batches(self) -> Iterator[tuple[settings.Stage, Mapping[str, np.ndarray]]]:
        """This process's share of each batch from the current step on, with the stage that it belongs to."""
        data, (images, partners) = self.config.data, self.training
        augmentation = pipeline.Augmentation.of(data)
        for stage in self.plan:
            if stage.last <= self.step:
                continue
            feed = pipeline.batches(
                pipeline.Examples(images, stage.crop, self.config.seed, augmentation, partners),
                stage.batch,
                self.examples,
                stage.last - self.step,
                process=jax.process_index(),
                processes=jax.process_count(),
                threads=data.threads,
            )
            for batch in feed:
                yield stage, batch

    def train(self, sigterm: threading.Event, tracer: Tracer) -> bool:
        """All steps that are left; whether SIGTERM ended them early."""
        pending, window, clock, last = collections.deque(), [], Clock(), self.plan[-1].last
        if self._validation_due():
            self.validate()  # what a SIGTERM left out
        now, step = None, self.runner.step
        for stage, batch in self.batches():
            batch = self.runner.shard(batch)
            if stage != now:
                step = self._compile(stage, batch)
                now = stage
                clock.restart()
            self.state, metrics = step(self.state, batch, self.rate(self.step))
            self.step, self.examples = self.step + 1, self.examples + stage.batch
            window.append(metrics)
            pending.append(metrics["loss"])
            if len(pending) > RUN_AHEAD:
                jax.block_until_ready(pending.popleft())
            clock.tick(stage.batch)
            tracer.tick(metrics)

            # All processes must agree on when to stop and save, and only meet here.
            meet = self.step % self.config.log_every == 0 or self.step == last
            if meet:
                self._report([self.runner.fetch(m) for m in window], clock)
                window = []
            stop = _agreed(sigterm.is_set()) if meet or jax.process_count() == 1 else False
            if stop or self._validation_due() or self._checkpoint_due(meet):
                self.save()
            if stop:
                return True
            if self._validation_due() and self.step < last:
                self.validate()
            if meet:
                clock.restart()
        return False

    def _compile(self, stage: settings.Stage, batch: Any) -> Step:
        began = time.time()
        self.logger.line(
            f"compiling for crops of {stage.crop}: minutes the first time, cached afterwards", passing=True
        )
        if file := self.config.train.compiled:
            step = ahead.load_step(file, self.state, batch, jax.devices())
        else:
            step = self.runner.compile(self.state, batch)
        self.logger.line(f"compiled for crops of {stage.crop} in {time.time() - began:.0f} s")
        return step

    def _report(self, fetched: list[dict[str, float]], clock: Clock) -> None:
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        means |= {name: fetched[-1][name] for name in ("lr", "skipped", "skipped_in_row")} | clock.speed()
        self.logger.scalars("train", self.step, means)
        self.logger.progress(self.step, means)
        if max(m["skipped_in_row"] for m in fetched) >= MAX_SKIPPED_IN_ROW:
            self.manager.wait_until_finished()
            last = self.manager.latest_step()
            start = "start anew" if last is None else f"resume from the last checkpoint, step {last},"
            raise JndError(
                f"{MAX_SKIPPED_IN_ROW} steps in a row had no finite gradient (now step {self.step}); {start} with a lower "
                "train.learning_rate."
            )

    def _validation_due(self) -> bool:
        every = self.config.eval.every
        return bool(every) and self.step > 0 and self.step % every == 0 and self.step not in self.scores

    def _checkpoint_due(self, meet: bool) -> bool:
        every = self.config.checkpoint.every_steps
        if every and self.step % every == 0:
            return True
        return meet and _agreed(time.time() - self.saved > 60 * self.config.checkpoint.every_minutes)

    def save(self) -> None:
        checkpoint.save(self.manager, self.runner.local(self.state), self.settings, self.examples)
        self.saved = time.time()

    def validate(self) -> None:
        """Code the validation images with the averaged parameters; all processes take part."""
        began = time.time()
        result, pictures = self.evaluate(self.runner.local(self.state.ema))
        self.scores[self.step] = result["score"]
        self.logger.scalars("eval", self.step, result)
        self.logger.pictures(self.step, pictures)
        figures = "  ".join(f"{name} {value:.4f}" for name, value in result.items())
        self.logger.line(f"step {self.step} eval  {figures}  ({time.time() - began:.0f} s)")

    def finish(self, stopped: bool) -> TrainState:
        """Checkpoint first, then validate and write the model; one copy of the state."""
        self.save()
        self.manager.wait_until_finished()
        final = self.runner.local(self.state)
        if stopped:
            self.logger.line(f"stopped at step {self.step} by SIGTERM; run the same command to go on")
        else:
            if self.step not in self.scores:
                self.validate()
            if jax.process_index() == 0:
                file = self.workdir / "model.safetensors"
                packaging.export_model(final.ema, file, self.model, name=self.workdir.resolve().name)
                self.logger.line(f"wrote {file}")
        self.manager.close()
        self.logger.close()
        return final


class Clock:
    """Speed since the last restart."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self.began, self.steps, self.images = time.time(), 0, 0

    def tick(self, images: int) -> None:
        """Count a step of so many images."""
        self.steps, self.images = self.steps + 1, self.images + images

    def speed(self) -> dict[str, float]:
        """Images and steps a second; nothing where no step was counted."""
        elapsed = time.time() - self.began
        return {"images_per_s": self.images / elapsed, "steps_per_s": self.steps / elapsed} if self.steps else {}


class Tracer:
    """Traces the steps PROFILED of a run into `folder`, for TensorBoard or Perfetto; nothing where it is None."""

    def __init__(self, folder: Path | None):
        self.folder, self.steps = folder, 0

    def tick(self, metrics: Mapping[str, jax.Array]) -> None:
        """Count a step that gave these metrics."""
        self.steps += 1
        if self.folder and self.steps == PROFILED.start:
            jax.profiler.start_trace(str(self.folder))
        if self.folder and self.steps == PROFILED.stop:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    profile: bool = False,
) -> TrainState:
    """Train until the last stage ends or SIGTERM comes, resuming from `workdir` where it holds a checkpoint.

    Writes checkpoints/, metrics.jsonl, tensorboard/, config.json and, at the end, model.safetensors (the averaged
    parameters).

    Args:
        config: as in configs/base.py.
        workdir: where the run's files are.
        model: in place of what the config names.
        loss: in place of what the config names; validation scores by it too.
        profile: trace steps 11 to 15 into workdir/profile.

    Returns:
        One copy of the last state.

    Raises:
        JndError: a config that cannot be; 20 steps in a row without a finite gradient, where the last checkpoint stays.
    """
    workdir = Path(workdir).expanduser().resolve()
    run = Run(config, workdir, model, loss)
    run.greet()
    left = run.plan[-1].last - run.step
    if profile and left < PROFILED.stop:
        raise JndError(f"--profile traces steps 11 to 15, but only {left} are left to train; set train.steps higher.")
    try:
        with _sigterm() as sigterm:
            stopped = run.train(sigterm, Tracer(workdir / "profile" if profile else None))
            return run.finish(stopped)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise JndError(
            f"Process {jax.process_index()} lost contact with another one ({str(error).splitlines()[0][:200]}); start all "
            "of them again, they go on from the last checkpoint."
        ) from error
