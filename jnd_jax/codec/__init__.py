"""The pure codec: transforms, quantisation, model definitions. Nothing here does I/O.

- `lapped`: the family of the shipped models. `LappedCodec.rate` estimates the bits that training minimises.
- `hyperprior`: the field's two reference codecs. `contract`: what a model of one's own provides.
- `hyper`: scale indexes and means of latents. The same code runs in training and in files.
- `coding`: latents to bytes and back, for lapped codecs; `float_coding` for all others.

`hyper`, `coding` and `linear` need no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jnd_jax.codec.hyper import lmbda
from jnd_jax.errors import JndError
from jnd_jax.imports import import_path, imported, is_import_path

if TYPE_CHECKING:
    import flax.linen as nn

__all__ = ["build", "describe", "lmbda", "settings", "shaping"]


def _models() -> dict[str, type[nn.Module]]:
    from jnd_jax.codec import hyperprior
    from jnd_jax.codec.lapped import LappedCodec

    return {"lapped": LappedCodec, **hyperprior.MODELS}


def _class(name: Any) -> type[nn.Module]:
    import flax.linen as nn

    known = _models()
    if name in known:
        return known[name]
    if not is_import_path(name):
        raise JndError(
            f"No model is named {name!r}; use one of {', '.join(known)}, or the import path of your own: "
            "package.module:Class."
        )
    found = imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise JndError(f"{name} is no flax.linen.Module; make your model a subclass of it.")
    return found


def _options(model: type[nn.Module] | nn.Module) -> list[str]:
    """Names of a model's attributes that a config can set."""
    return [field.name for field in dataclasses.fields(model) if field.name not in ("name", "parent")]


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model that `config` describes.

    Args:
      config: {"name": ..., and the module's attributes}. The name is one of this package's models or an import path,
        "package.module:Class".

    Raises:
      JndError: no such model, or it has no such attribute.
    """
    name, given = config.get("name"), {k: v for k, v in config.items() if k != "name"}
    model = _class(name)
    if unknown := sorted(given.keys() - set(_options(model))):
        raise JndError(f"The model {name} has no option {', '.join(unknown)}; it has {', '.join(_options(model))}.")
    return model(**{k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in given.items()})


def describe(model: nn.Module) -> dict[str, Any]:
    """The config from which `build` makes `model`, with every attribute.

    Defaults are written too, so that a new default never changes what old files mean. A subclass of a model of this
    package is named by its own import path.

    Raises:
      JndError: a class that cannot be imported.
    """
    names = {model: name for name, model in _models().items()}
    name = names.get(type(model)) or import_path(type(model))
    return {"name": name, **{option: getattr(model, option) for option in _options(model)}}


def shaping(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a model's config that its parameters depend on.

    An option that they do not depend on says so in its field's metadata, {"shapes": False}: a run that goes on may change it.
    """
    free = {
        field.name for field in dataclasses.fields(_class(config["name"])) if not field.metadata.get("shapes", True)
    }
    return {option: value for option, value in config.items() if option not in free}


def settings(name: str) -> dict[str, Any]:
    """The config of a model with every option at its default. An experiment's config starts from it."""
    return describe(build({"name": name}))
