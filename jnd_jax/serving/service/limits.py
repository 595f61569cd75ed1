"""Limits of the service, and the options of `jnd-jax serve` that set them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NamedTuple

from jnd_jax.arguments import at_least, between


@dataclass(frozen=True)
class Limits:
    """Bounds on the memory and time that clients can take.

    Attributes:
      body: bytes of a request.
      pixels: pixels of an image.
      target_pixels: pixels of an image that is encoded with a target, which takes about ten encodings.
      held: bytes of all requests and answers that are being sent.
      queue: length of the queue of requests to encode, and of that of requests to decode.
      pictures: length of the queue of requests for stored pictures.
      wait: seconds that a request waits for a worker at most.
      workers: processes that encode and decode.
      memory: resident bytes of a worker; beyond, it is killed with its request.
      cpu_seconds: CPU time of one request.
      models: models that a worker keeps loaded.
      cache: bytes of cached answers.
      patience: seconds for a client to send its request, and to take each part of its answer.
      connections: open connections.
    """

    body: int = 32 << 20
    pixels: int = 24_000_000
    target_pixels: int = 2_000_000
    held: int = 256 << 20
    queue: int = 16
    pictures: int = 256
    wait: float = 60.0
    workers: int = 1
    memory: int = 2 << 30
    cpu_seconds: float = 120.0
    models: int = 2
    cache: int = 64 << 20
    patience: float = 20.0
    connections: int = 1024


class _Option(NamedTuple):
    """An option for a field of `Limits`; the option's value times `unit` is the field's."""

    flag: str
    field: str
    unit: float
    help: str


_OPTIONS = (
    _Option("--max-megabytes", "body", 1 << 20, "MiB of a request"),
    _Option("--max-megapixels", "pixels", 1e6, "of an image"),
    _Option("--max-target-megapixels", "target_pixels", 1e6, "of an image to encode with a target"),
    _Option("--held-megabytes", "held", 1 << 20, "MiB of requests and answers that are being sent"),
    _Option("--queue", "queue", 1, "requests to encode that may wait, and as many to decode"),
    _Option("--picture-queue", "pictures", 1, "requests for stored pictures that may wait"),
    _Option("--wait", "wait", 1, "seconds in which a request must have come to a worker"),
    _Option("--workers", "workers", 1, "processes that encode and decode"),
    _Option("--worker-megabytes", "memory", 1 << 20, "MiB of memory that a worker may take"),
    _Option("--cpu-seconds", "cpu_seconds", 1, "that a request may take"),
    _Option("--loaded-models", "models", 1, "models that a worker keeps loaded"),
    _Option("--cache-megabytes", "cache", 1 << 20, "MiB of answers that are kept"),
    _Option("--patience", "patience", 1, "seconds in which a client must have sent its request"),
    _Option("--connections", "connections", 1, "at a time"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field of `Limits`."""
    for option in _OPTIONS:
        default = getattr(Limits, option.field) / option.unit
        counts = option.unit == 1 and isinstance(getattr(Limits, option.field), int)
        parser.add_argument(
            option.flag,
            dest=f"limit_{option.field}",
            type=at_least(1) if counts else between(0),
            default=default,
            metavar="N",
            help=f"{option.help} (default: {default:g})",
        )


def from_options(args: argparse.Namespace) -> Limits:
    """The limits that parsed arguments ask for."""
    values = {option.field: getattr(args, f"limit_{option.field}") * option.unit for option in _OPTIONS}
    return Limits(**{name: type(getattr(Limits, name))(value) for name, value in values.items()})
