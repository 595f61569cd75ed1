"""One per-device step, two ways to run it on all devices: jax.pmap, or jax.shard_map over a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnd_jax.errors import JndError
from jnd_jax.training.step import AXIS


@dataclass(frozen=True)
class Parallel:
    """A data-parallel step and the four conversions around it.

    `step(state, batch)` donates its state. `replicate` puts one state on all devices, `shard` splits this process's
    part of a batch among its devices, `local` takes one copy of the state back (safe to keep: it shares no buffer),
    and `fetch` turns a step's metrics into floats, which waits for the step.
    """

    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
    replicate: Callable[[Any], Any]
    shard: Callable[[Any], Any]
    local: Callable[[Any], Any]

    @staticmethod
    def fetch(metrics: dict[str, jax.Array]) -> dict[str, float]:
        return {k: float(np.ravel(v.addressable_shards[0].data)[0]) for k, v in metrics.items()}


def connect(coordinator: str, processes: int = 0, process: int = 0) -> None:
    """Join the processes of several hosts; call it before any other use of JAX.

    `coordinator` is "host:port" of process 0, together with the number of processes and this one's index; or "auto",
    which asks the cluster (SLURM, Open MPI, Cloud TPU, Kubernetes); or "", one process alone.
    """
    if coordinator == "auto":
        jax.distributed.initialize()
    elif coordinator:
        if processes < 1 or not 0 <= process < processes:
            raise JndError(f"Process {process} of {processes} cannot be; give --processes and a --process below it.")
        jax.distributed.initialize(coordinator, processes, process)


def parallelize(
    step: Callable[[Any, Any], tuple[Any, Any]], kind: str = "pmap", devices: Sequence[Any] | None = None
) -> Parallel:
    """Run the per-device `step` on `devices` (default: all of all hosts), by "pmap" or "shard_map", with equal results."""
    devices = list(devices or jax.devices())
    here = [device for device in devices if device.process_index == jax.process_index()]
    if kind == "pmap":
        stack = lambda a: np.broadcast_to(np.asarray(a), (len(here), *np.shape(a)))
        spread = jax.pmap(lambda tree: tree, AXIS, devices=devices)
        return Parallel(
            step=jax.pmap(step, AXIS, devices=devices, donate_argnums=0),
            replicate=lambda state: spread(jax.tree.map(stack, state)),
            shard=lambda batch: {k: v.reshape(len(here), -1, *v.shape[1:]) for k, v in batch.items()},
            local=lambda state: jax.tree.map(lambda a: jnp.copy(a.addressable_shards[0].data[0]), state),
        )
    if kind == "shard_map":
        mesh = Mesh(np.array(devices), (AXIS,))
        whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
        place = lambda sharding, tree: jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), tree
        )
        # check_vma=False: with it on, the gradient of a replicated input is already summed over devices, and the
        # step's own pmean would count it twice.
        mapped = jax.shard_map(
            step, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS)), out_specs=PartitionSpec(), check_vma=False
        )
        return Parallel(
            step=jax.jit(mapped, donate_argnums=0),
            replicate=lambda state: place(whole, state),
            shard=lambda batch: place(split, batch),
            local=lambda state: jax.tree.map(lambda a: jnp.copy(a.addressable_shards[0].data), state),
        )
    raise JndError(f"Unknown way to parallelize {kind!r}; choose pmap or shard_map.")
