"""Compiles the train step on one machine for the GPU of another, so that a rented GPU does not wait for its compiler.

    python -m jnd_jax.training.ahead --config configs/jnd_perceptual.py -o step.h100 --crop 256 --batch 16
    python train.py --config configs/jnd_perceptual.py --workdir runs/trunk --config.train.stages='((100_000,256,16),)' \\
        --config.train.parallel=shard_map --config.train.compiled=step.h100          # on the machine with the GPU

Both machines need the same version of jax with its CUDA packages (`pip install "jax[cuda13]"`). The first needs no
GPU. A step takes its learning rate as an argument, so one file serves a run, its branches and any schedule. The program
is not tuned to the GPU. That costs little, because convolutions are products of matrices on a GPU (`codec.layers`).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental import serialize_executable, topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict, config_flags

from jnd_jax import codec
from jnd_jax.errors import JndError
from jnd_jax.files import write_bytes
from jnd_jax.losses import make_loss
from jnd_jax.training import settings
from jnd_jax.training.commandline import fail, parse
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import shapes_of_state
from jnd_jax.training.step import AXIS, Step, step_of

# What XLA must know of a GPU to compile for it: an NVIDIA H100 (SXM). Its code runs on an H200 as well. Without the versions
# of driver and toolkit XLA would keep products of matrices out of CUDA graphs, and each would be launched by itself.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

# No tuning: it would have to measure on the GPU itself.
_XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


def _shapes(batch: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in sorted(batch.items())}


def compile_step(config: ConfigDict, crop: int, batch: int, devices: Sequence[Any]) -> bytes:
    """The step of a config, for a global batch of (crop, crop) images on `devices` of any machine.

    Returns:
        A file: one line of JSON (version of jax, shapes of a batch, names of the metrics), then the program.
    """
    model = codec.build(config.model.to_dict())
    optimizer, step = step_of(config, model, make_loss(config.loss))
    state = shapes_of_state(model, optimizer)
    image = jax.ShapeDtypeStruct((batch, crop, crop, 3), jnp.uint8)
    example = {"image": image, "index": jax.ShapeDtypeStruct((batch,), jnp.int32)}
    if config.data.jnd_path:
        example["jnd"] = image
    mesh = Mesh(np.array(devices), (AXIS,))

    def on(spec: PartitionSpec, tree: Any) -> Any:
        place = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec))
        return jax.tree.map(place, tree)

    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    lowered = parallelize(step, "shard_map", devices).step.lower(on(whole, state), on(split, example), on(whole, rate))
    program, _, _ = serialize_executable.serialize(lowered.compile())
    header = {"jax": jax.__version__, "batch": _shapes(example), "metrics": sorted(lowered.out_info[1])}
    return json.dumps(header).encode() + b"\n" + program


def load_step(path: str | Path, state: Any, batch: Mapping[str, jax.Array], devices: Sequence[Any]) -> Step:
    """The step in a file of `compile_step`, for arguments like these. Load only files of your own: their code is run.

    Raises:
        JndError: the file holds no step, or a step for another jax or another batch.
    """
    try:
        line, program = Path(path).read_bytes().split(b"\n", 1)
        header = json.loads(line)
        made_by, shapes, names = header["jax"], header["batch"], header["metrics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JndError(f"{path} holds no compiled step; write one with `python -m jnd_jax.training.ahead`.") from error
    if made_by != jax.__version__:
        raise JndError(
            f"{path} was compiled by jax {made_by}, and this is {jax.__version__}; compile it with this one."
        )
    if shapes != _shapes(batch):
        raise JndError(f"{path} was compiled for a batch {shapes}, not {_shapes(batch)}; compile it for this stage's.")
    given = jax.tree.structure(((state, dict(batch), np.float32(0)), {}))
    back = jax.tree.structure((state, dict.fromkeys(names, 0)))
    compiled = serialize_executable.deserialize_and_load(
        program, given, back, backend=devices[0].client, execution_devices=devices
    )
    whole = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    return lambda state, batch, rate: compiled(state, batch, jax.device_put(np.float32(rate), whole))


def _gpus(count: int, target: Path | None) -> Sequence[Any]:
    """Devices to compile for that need not be here: `count` of one machine, as the file `target` describes them."""
    try:
        text = target.read_text() if target else H100
    except (OSError, UnicodeDecodeError) as error:
        raise JndError(f"{target} cannot be read; give --target a text file.") from error
    try:
        return topologies.get_topology_desc(platform="cuda", topology=f"1x1x{count}", target_config=text).devices
    except (NotImplementedError, RuntimeError) as error:
        raise JndError(f"{str(error).splitlines()[0]}; install jax with CUDA: pip install 'jax[cuda13]'") from error


def main() -> None:
    flag = config_flags.DEFINE_config_file("config", None, "The experiment's config file.", lock_config=True)
    flags.mark_flag_as_required("config")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--crop", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="global")
    parser.add_argument("--gpus", type=int, default=1, help="of one machine (default: %(default)s)")
    parser.add_argument("--target", type=Path, help="XLA's description of another GPU, as text (default: H100)")
    args, rest = parser.parse_known_args()
    try:
        _, *unknown = parse("ahead", ["ahead", *rest])
        if unknown:
            raise JndError(f"{unknown[0]!r} is no flag; flags begin with --.")
        if args.gpus < 1:
            raise JndError(f"--gpus is {args.gpus}; give it at least 1.")
        config: Any = flag.value
        config.train.update(steps=0, stages=((1, args.crop, args.batch),))
        settings.check(config)
        settings.stages(config, args.gpus)
        devices = _gpus(args.gpus, args.target)
        write_bytes(args.output, compile_step(config, args.crop, args.batch, devices))
    except (JndError, OSError) as error:
        fail("ahead", error)


if __name__ == "__main__":
    # The driver's own checks would fail where there is no GPU.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
    main()
