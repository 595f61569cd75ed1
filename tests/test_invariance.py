"""The same stream gives the same symbols whatever the runtime: threads, devices, compilation."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jnd_jax
from jnd_jax import bitstream

ROOT = Path(__file__).parent.parent
STREAMS = sorted((ROOT / "tests" / "golden").glob("*.jnd"))

SCRIPT = """
import jax, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_invariance import digests
print(jax.device_count(), *digests())
"""

VARIANTS = {
    "one thread": {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    },
    "without jit": {"JAX_DISABLE_JIT": "1"},
    "8 devices": {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    "default matmul precision": {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"},
}


def digests() -> list[str]:
    """SHA-256 of the symbols and scale indexes of each golden stream, decoded here."""
    codec = jnd_jax.load(ROOT / "tests" / "golden" / "tiny.safetensors")
    found = []
    for path in STREAMS:
        latents = codec.decode_latents(*bitstream.unpack(path.read_bytes()))
        codec.synthesise(latents.y_hat, 500)
        found.append(hashlib.sha256(latents.symbols.tobytes() + latents.indexes.tobytes()).hexdigest())
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_symbols_do_not_depend_on_the_runtime(variant):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **VARIANTS[variant]}
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT))],
        env=environment,
        text=True,
        capture_output=True,
        timeout=600,
        check=True,
    ).stdout.split()
    assert int(out[0]) == (8 if "devices" in variant else 1)
    assert out[1:] == digests()
