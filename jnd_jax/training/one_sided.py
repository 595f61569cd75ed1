"""Keeps the last activation of a lapped codec's synthesis network on the side where photographs have it.

    python -m jnd_jax.training.one_sided MODEL -o FILE.safetensors

Training left all inputs of that leaky ReLU negative, where it is a line of slope .01. A picture unlike those of training may have a
few positive ones: they count a hundred times as much, and some blocks of it decode to loud noise. Here the inputs are lowered, and
the next layers' biases make up for it: pictures without positive inputs decode as before, in others the line goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jnd_jax import codec, modelfile
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.errors import JndError
from jnd_jax.training import packaging
from jnd_jax.training.commandline import fail

_LOWER = 16.0  # the largest input known was 3.7
_SLOPE = 0.01  # of flax.linen.leaky_relu
_MODULATION = "Modulation_1"


def one_sided(model: LappedCodec, net: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parameters of `SynthesisNet` whose last activation's inputs lie `_LOWER` lower, and the names of the changed biases.

    Raises:
        JndError: no bottleneck follows, whose biases could make up for it.
    """
    fine, coarse = model.synthesis_depths
    if not fine:
        raise JndError("The synthesis network has no bottleneck at 1/4 resolution; give a model that has one.")
    block = f"Bottleneck_{coarse}"
    modulation, first, last = net[_MODULATION], net[block]["Conv_0"], net[block]["Conv_2"]
    less = np.float32(_SLOPE * _LOWER)
    inside = {
        "Conv_0": {**first, "bias": first["bias"] + less * np.sum(first["kernel"], (0, 1, 2))},
        "Conv_2": {**last, "bias": last["bias"] + less},
    }
    changed = {
        _MODULATION: {**modulation, "shift": modulation["shift"] - np.float32(_LOWER)},
        block: {**net[block], **inside},
    }
    return {**net, **changed}, tuple(f"synthesis_net/{block}/{layer}/bias" for layer in inside)


def change(name: str, output: Path) -> str:
    """Writes the model; returns its hash."""
    packaging.check_name(output)
    given = modelfile.load(modelfile.find(name))
    model = codec.build(given.config)
    if not isinstance(model, LappedCodec):
        raise JndError(f"{name} is no lapped codec; give one of that family.")
    net, names = one_sided(model, given.params["synthesis_net"])
    return modelfile.save(
        output,
        name=output.stem,
        config=given.config,
        params=given.params | {"synthesis_net": net},
        tables=given.tables,
        card=given.card
        | {"one_sided": f"last activation of the synthesis, from {given.name}; figures are of that model"},
        half=True,
        keep=(*packaging.FULL_PRECISION, *names),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    args = parser.parse_args()
    try:
        print(change(args.model, args.output))
    except (JndError, OSError) as error:
        fail("one_sided", error)


if __name__ == "__main__":
    main()
