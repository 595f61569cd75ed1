"""Checkpoints of a run: state, config and data position, written asynchronously by Orbax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jnd_jax import codec
from jnd_jax.errors import JndError
from jnd_jax.training.log import scores
from jnd_jax.training.state import TrainState

_policies = ocp.checkpoint_managers.preservation_policy


def _best(steps: Sequence[int], by_step: Mapping[int, float]) -> int | None:
    scored = [step for step in steps if math.isfinite(by_step.get(step, math.nan))]
    return min(scored, key=lambda step: by_step[step], default=None)


@dataclass
class _Best(_policies.PreservationPolicy):
    """Keeps the checkpoint of the lowest score. Scores may come after their checkpoint was written."""

    scores: Mapping[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = _best(steps, self.scores)
        return [step == best for step in steps]


def _manager(workdir: str | Path, **options: Any) -> ocp.CheckpointManager:
    handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    folder = Path(workdir).expanduser().resolve() / "checkpoints"
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options), item_handlers=handlers)


def open_manager(workdir: str | Path, keep: int, by_step: Mapping[int, float]) -> ocp.CheckpointManager:
    """The checkpoints of `workdir`, to write to.

    Args:
        workdir: of the run.
        keep: how many of the last checkpoints stay.
        by_step: validation scores; the checkpoint of the lowest one stays too. Read at each save.
    """
    policy = _policies.AnyPreservationPolicy([_policies.LatestN(keep), _Best(by_step)])
    return _manager(workdir, enable_async_checkpointing=True, preservation_policy=policy)


def read_manager(workdir: str | Path) -> ocp.CheckpointManager:
    """The checkpoints of `workdir`, to read from.

    Raises:
        JndError: there is none.
    """
    if (Path(workdir).expanduser() / "checkpoints").is_dir():
        manager = _manager(workdir, create=False, read_only=True)
        if manager.latest_step() is not None:
            return manager
        manager.close()
    raise JndError(f"{workdir} holds no checkpoint; give the workdir of a run that has written one.")


def _global(tree: Any) -> Any:
    """Host-local copies as arrays replicated over all devices of all hosts: what Orbax needs of several processes."""
    if jax.process_count() == 1:
        return tree
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec())
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(everywhere, np.asarray(a)), tree)


def save(manager: ocp.CheckpointManager, state: TrainState, config: dict[str, Any], examples: int) -> None:
    """Save one copy of the state, the config and the number of examples drawn so far; returns before it is on disk."""
    step = int(state.step)
    if step in manager.all_steps():
        return
    meta = {"config": config, "examples": examples}
    manager.save(
        step, args=ocp.args.Composite(state=ocp.args.StandardSave(_global(state)), meta=ocp.args.JsonSave(meta))
    )


def restore(manager: ocp.CheckpointManager, like: TrainState, config: dict[str, Any]) -> tuple[TrainState, int]:
    """The last checkpoint: its state, and the number of examples drawn up to it.

    Args:
        manager: of the run's checkpoints.
        like: gives the structure.
        config: of the run that goes on.

    Raises:
        JndError: model or optimizer differ from those that wrote the checkpoint.
    """
    step = manager.latest_step()
    saved: Any = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
    meta = saved.meta
    _check_same(meta["config"], config, f"The checkpoint of step {step} in {manager.directory}")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _global(like))
    try:
        saved: Any = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
    except (ValueError, KeyError, TypeError) as error:
        raise JndError(
            f"The checkpoint of step {step} in {manager.directory} does not fit this model and optimizer; resume with "
            "the config it was written with, or start a new workdir."
        ) from error
    return jax.tree.map(lambda a: a.addressable_shards[0].data, saved.state), meta["examples"]


def _check_same(written: Mapping[str, Any], asked: Mapping[str, Any], what: str) -> None:
    """Raises JndError where the two configs differ in what a state is made of."""
    both = written["model"].keys() & codec.shaping(asked["model"]).keys()
    for part, keys in (("model", both), ("train", ("optimizer", "freeze"))):
        for key in sorted(keys):
            old, new = written[part].get(key), asked[part].get(key)
            if old != new:
                raise JndError(
                    f"{what} was written with {part}.{key}={old}, not {new}; resume with that config, or start a new workdir."
                )


def load_params(workdir: str | Path, ema: bool = True, best: bool = False) -> dict[str, Any]:
    """Parameters of a run as nested dicts of NumPy arrays.

    Args:
        workdir: of the run.
        ema: the average of the parameters, else the last ones.
        best: those of the checkpoint with the lowest validation score, else of the newest.

    Raises:
        JndError: no checkpoint, or with `best` none that was validated.
    """
    with read_manager(workdir) as manager:
        step = manager.latest_step()
        if best:
            step = _best(manager.all_steps(), scores(Path(workdir).expanduser()))
        if step is None:
            raise JndError(f"No checkpoint in {workdir} was validated; set eval.every, or leave out --best.")
        # Without a target Orbax would ask for the devices that wrote the checkpoint.
        here = SingleDeviceSharding(jax.local_devices()[0])
        as_saved = manager.item_metadata(step)["state"]
        target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), as_saved.tree)
        saved: Any = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
    return jax.tree.map(np.asarray, saved.state["ema" if ema else "params"])
