"""One per-device step, two ways to run it on all devices: jax.pmap, or jax.shard_map over a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnd_jax import devices
from jnd_jax.errors import JndError
from jnd_jax.training.step import AXIS, Step


def compiler_options() -> dict[str, Any]:
    """XLA's options for programs that run often: those of this host's devices. On a CPU LLVM's higher levels take longer, and the
    program is no faster.
    """
    on_cpu = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    return devices.compiler_options() | on_cpu


@dataclass(frozen=True)
class Parallel:
    """A data-parallel step and what is around it. State and optimizer state are replicated, not sharded.

    Attributes:
        step: (state, batch, learning rate) -> (state, metrics), jitted; donates its state.
        replicate: puts one state on all devices.
        shard: splits this process's part of a batch among its devices.
        local: takes one copy of the state back, which shares no buffer with it.
    """

    step: Callable[[Any, Any, Any], tuple[Any, dict[str, jax.Array]]]
    replicate: Callable[[Any], Any]
    shard: Callable[[Any], Any]
    local: Callable[[Any], Any]

    def compile(self, state: Any, batch: Any) -> Step:
        """`step` for arguments of these shapes alone; returns when all processes have it."""
        alone = jax.process_count() == 1
        step = self.step.lower(state, batch, np.float32(0)).compile(compiler_options() if alone else None)
        wait_for_all(f"compiled {jax.tree.map(jnp.shape, batch)}")
        # Of several processes, pmap's compiled program would want the arguments of all.
        return step if alone else self.step

    @staticmethod
    def fetch(metrics: dict[str, jax.Array]) -> dict[str, float]:
        """A step's metrics as floats; waits for the step."""
        return {k: float(np.ravel(v.addressable_shards[0].data)[0]) for k, v in metrics.items()}


# Seconds without a sign of life after which a process counts as dead, and the others end.
HEARTBEAT = 40

# Seconds that processes wait for one another where their work is uneven. Collectives wait much less (Gloo 30 s).
_UNEVEN = 3600


def connect(coordinator: str, processes: int = 0, process: int = 0, timeout: int = 300) -> None:
    """Join the processes of several hosts; call it before any other use of JAX.

    Args:
        coordinator: "host:port" of process 0; or "auto", which asks the cluster (SLURM, Open MPI, Cloud TPU,
            Kubernetes); or "", one process alone.
        processes: how many there are, with host:port.
        process: which of them this is.
        timeout: seconds in which all have to be there.

    Raises:
        JndError: no such process, or not all came.
    """
    waits: dict[str, Any] = {"initialization_timeout": timeout, "heartbeat_timeout_seconds": HEARTBEAT}
    by_name = coordinator not in ("", "auto")
    if by_name and not 0 <= process < processes:
        raise JndError(f"Process {process} of {processes} cannot be; give --processes and a --process below it.")
    try:
        if by_name:
            jax.distributed.initialize(coordinator, processes, process, **waits)
        elif coordinator:
            jax.distributed.initialize(**waits)
    except ValueError as error:
        raise JndError("No cluster was found to join; give --coordinator HOST:PORT, or leave it out.") from error
    except RuntimeError as error:
        raise JndError(
            f"The {processes or ''} processes did not meet at {coordinator} within {timeout} s; start all of them, or "
            "give a longer --timeout."
        ) from error


def wait_for_all(name: str) -> None:
    """Wait until all processes are here, by messages instead of a collective; `name` is used once in a run."""
    if jax.process_count() > 1:
        ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=1000 * _UNEVEN)


def parallelize(
    step: Callable[[Any, Any, Any], tuple[Any, Any]], kind: str = "pmap", devices: Sequence[Any] | None = None
) -> Parallel:
    """Run the per-device `step` on `devices` (default: all of all hosts), by "pmap" or "shard_map", with equal results."""
    devices = list(devices or jax.devices())
    here = [device for device in devices if device.process_index == jax.process_index()]
    if kind == "pmap":
        stack = lambda a: np.broadcast_to(np.asarray(a), (len(here), *np.shape(a)))
        spread = jax.pmap(lambda tree: tree, AXIS, devices=devices)
        return Parallel(
            step=jax.pmap(step, AXIS, in_axes=(0, 0, None), devices=devices, donate_argnums=0),
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
            step,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        return Parallel(
            step=jax.jit(mapped, donate_argnums=0),
            replicate=lambda state: place(whole, state),
            shard=lambda batch: place(split, batch),
            local=lambda state: jax.tree.map(lambda a: jnp.copy(a.addressable_shards[0].data), state),
        )
    raise JndError(f"Unknown way to parallelize {kind!r}; choose pmap or shard_map.")
