"""The pure codec: transforms, quantisation, model definitions. Nothing here does I/O.

`hyper`, `coding` and `linear` are NumPy alone: they need no jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jnd_jax.codec.hyper import lmbda
from jnd_jax.errors import JndError

if TYPE_CHECKING:
    import flax.linen as nn

__all__ = ["build", "lmbda"]


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model that `config` describes: {"name": ..., and the module's attributes}.

    Raises:
      JndError: for a name that is not a model's.
    """
    from jnd_jax.codec.hyperprior import MeanScaleHyperprior, ScaleHyperprior
    from jnd_jax.codec.lapped import LappedCodec

    models = {"jnd": LappedCodec, "bmshj2018-hyperprior": ScaleHyperprior, "mbt2018-mean": MeanScaleHyperprior}
    name = config.get("name")
    if name not in models:
        raise JndError(f"No model is named {name!r}: use one of {', '.join(models)}.")
    attributes = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in config.items() if k != "name"}
    return models[name](**attributes)
