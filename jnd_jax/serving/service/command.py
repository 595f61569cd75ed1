"""`jnd-jax serve`."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import socket
import sys
from pathlib import Path

from jnd_jax import zoo
from jnd_jax.errors import JndError
from jnd_jax.serving.service import limits
from jnd_jax.serving.service.app import Service
from jnd_jax.serving.service.models import Models
from jnd_jax.serving.service.telemetry import ACCESS

_LOG = logging.getLogger(__name__)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    found = re.findall(r"(\d+)x(\d+)", text)
    sizes = tuple((int(width), int(height)) for width, height in found)
    if not found or ",".join(map("x".join, found)) != text or not all(1 <= n <= 8192 for size in sizes for n in size):
        raise argparse.ArgumentTypeError(
            f"Give sizes of 1 to 8192 pixels a side, such as 768x512,512x768, not {text!r}"
        )
    return sizes


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"Give a port of 0 to 65535, not {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax serve`."""
    parser.add_argument(
        "model",
        nargs="?",
        default=zoo.DEFAULT,
        metavar="MODEL",
        help="name or file of the model to encode with (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="(default: %(default)s; 0: any that is free)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="folder of .jnd files to show under /pictures")
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of further model files; SIGHUP looks at it again"
    )
    parser.add_argument(
        "--warm",
        type=_sizes,
        default=(),
        metavar="WxH,...",
        help="sizes of images to compile for before /ready says so; others are compiled when they come",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web origin whose scripts may use the service, or * (CORS); may be given again",
    )
    parser.add_argument("--no-access-log", action="store_true", help="no line of JSON on stderr for each request")
    limits.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    service = Service(
        Models(args.model, args.models),
        limits.from_options(args),
        args.store,
        warm=args.warm,
        origins=args.allow_origin,
    )
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    ACCESS.setLevel(logging.WARNING if args.no_access_log else logging.INFO)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: _reload(service))
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with socket.create_server((args.host, args.port), family=family) as listening:
        print(f"http://{args.host}:{listening.getsockname()[1]}", flush=True)
        service.server(log_level="error").run([listening])
    return 0


def _reload(service: Service) -> None:
    try:
        _LOG.warning("The models were read again: %s", ", ".join(service.reload()))
    except JndError as error:
        _LOG.error("The models stay as they were: %s", error)
