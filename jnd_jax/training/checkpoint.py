"""Checkpoints of a run: state, config and data position, written asynchronously by Orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jnd_jax.errors import JndError
from jnd_jax.training.state import TrainState


def open_manager(workdir: str | Path, keep: int = 2) -> ocp.CheckpointManager:
    """The checkpoints of `workdir`, of which the last `keep` stay, and the one of the lowest validation score."""
    policy = ocp.checkpoint_managers.preservation_policy
    fitness = lambda metrics: -metrics["score"]
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=True,
        best_fn=fitness,
        preservation_policy=policy.AnyPreservationPolicy(
            [policy.LatestN(keep), policy.BestN(get_metric_fn=fitness, n=1, keep_checkpoints_without_metrics=False)]
        ),
    )
    handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    folder = Path(workdir).expanduser().resolve() / "checkpoints"
    return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def _global(tree: Any) -> Any:
    """Host-local copies as arrays replicated over all devices of all hosts: what Orbax needs of several processes."""
    if jax.process_count() == 1:
        return tree
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec())
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(everywhere, np.asarray(a)), tree)


def save(
    manager: ocp.CheckpointManager, state: TrainState, config: dict[str, Any], examples: int, score: float | None = None
) -> None:
    """Save one copy of the state, the config and the number of examples drawn so far; returns before it is on disk.

    `score` is what the validation of this very step gave, if there was one.
    """
    step = int(state.step)
    if step in manager.all_steps():
        return
    meta = {"config": config, "examples": examples}
    manager.save(
        step,
        metrics=None if score is None else {"score": score},
        args=ocp.args.Composite(state=ocp.args.StandardSave(_global(state)), meta=ocp.args.JsonSave(meta)),
    )


def restore(manager: ocp.CheckpointManager, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The last checkpoint as (state, {"config", "examples"}).

    `like` gives the structure; raises JndError where model or optimizer differ from those that wrote the checkpoint.
    """
    step = manager.latest_step()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _global(like))
    try:
        saved = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        )
    except (ValueError, KeyError, TypeError) as error:
        raise JndError(
            f"The checkpoint of step {step} in {manager.directory} does not fit this model and optimizer; resume with "
            f"the config it was written with, or start a new workdir. ({error})"
        ) from error
    return jax.tree.map(lambda a: a.addressable_shards[0].data, saved.state), saved.meta


def load_params(workdir: str | Path, ema: bool = True, best: bool = False) -> dict[str, Any]:
    """The averaged (or, without `ema`, the last) parameters of a run's newest checkpoint, as nested dicts of NumPy.

    With `best`, of the one with the lowest validation score.
    """
    with open_manager(workdir) as manager:
        step = manager.best_step() if best else manager.latest_step()
        if step is None:
            raise JndError(f"{workdir} holds no checkpoint; train there first.")
        # Without a target Orbax would ask for the devices that wrote the checkpoint.
        here = SingleDeviceSharding(jax.local_devices()[0])
        as_saved = manager.item_metadata(step)["state"]
        target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), as_saved.tree)
        saved = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
    return jax.tree.map(np.asarray, saved.state["ema" if ema else "params"])
