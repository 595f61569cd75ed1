"""`jnd-jax serve`: encode and decode over HTTP, and a gateway that shows stored .jnd files to browsers.

    GET  /health             the model's name and hash
    GET  /metrics            counts and times, in Prometheus' format
    POST /encode             an image file in, a .jnd file out; ?quality=0..100 or ?target=jnd, psnr=38, bpp=0.5, ...
    POST /decode             a .jnd file in, an image out; ?format=png, webp (both lossless) or jpg
    GET  /pictures/NAME.jnd  the stored file as WebP, or as JPEG or PNG for a browser that takes no WebP

What the service cannot do now it refuses at once (503 with Retry-After); what it never can, with a 4xx and a sentence:
{"error": "..."}. Memory is bounded by the limits below, whatever clients send.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import io as bytesio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import h11
import numpy as np
import prometheus_client
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

import jnd_jax
from jnd_jax import bitstream, images
from jnd_jax.codec.linear import BLOCK, TILE
from jnd_jax.errors import JndError
from jnd_jax.image_codec import ImageCodec

_MEDIA = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}
_PART = 65536
# Times the patience for which the rest of a refused body is read, and thrown away.
_DRAIN = 10
# How pictures are sent to browsers: at such a quality a transcoded file hides little of what the .jnd file holds.
_GATEWAY = {"webp": {"lossless": False, "exact": False, "quality": 90, "method": 4}, "jpg": {"quality": 90}, "png": {}}


@dataclass(frozen=True)
class Limits:
    """What the service takes on.

    Attributes:
      body: bytes of a request.
      pixels: of an image.
      held: bytes of all requests and answers that are being sent at a time.
      queue: requests that are worked on or wait for it; each may hold its image's pixels a few times over.
      workers: requests that are worked on at a time.
      batch: images of one size, at most 1024 pixels a side, that are decoded together where so many wait.
      patience: seconds in which a client must have sent its request, and in which it must take a part of its answer.
      connections: at a time.
    """

    body: int = 32 << 20
    pixels: int = 64_000_000
    held: int = 256 << 20
    queue: int = 16
    workers: int = 1
    batch: int = 8
    patience: float = 20.0
    connections: int = 256


class Service:
    """The routes, and what they share."""

    def __init__(self, codec: ImageCodec, limits: Limits, store: Path | None):
        self._codec, self._limits, self._store = codec, limits, store
        self._held, self._busy = 0, 0
        self._workers = anyio.CapacityLimiter(limits.workers)
        self._waiting: defaultdict[tuple[int, ...], dict[asyncio.Future, tuple[np.ndarray, int]]] = defaultdict(dict)
        self._registry = prometheus_client.CollectorRegistry()
        self._count = prometheus_client.Counter(
            "jnd_requests", "Requests answered", ("route", "status"), registry=self._registry
        )
        self._seconds = prometheus_client.Histogram(
            "jnd_seconds", "Seconds of answered requests", ("route",), registry=self._registry
        )
        prometheus_client.Gauge("jnd_busy", "Requests worked on or waiting", registry=self._registry).set_function(
            lambda: self._busy
        )
        prometheus_client.Gauge(
            "jnd_held_bytes", "Bytes of requests and answers held", registry=self._registry
        ).set_function(lambda: self._held)

    def server(self, **options: Any) -> uvicorn.Server:
        """What listens; `options` of uvicorn.Config, such as host and port."""
        return uvicorn.Server(
            uvicorn.Config(
                self._app(),
                http=functools.partial(_Connection, self._limits.patience),
                ws="none",
                limit_concurrency=self._limits.connections,
                **options,
            )
        )

    def _app(self) -> Starlette:
        route = lambda path, method, handler: Route(path, self._measured(path, handler), methods=[method])
        return Starlette(
            routes=[
                route("/health", "GET", self.health),
                route("/metrics", "GET", self.metrics),
                route("/encode", "POST", self.encode),
                route("/decode", "POST", self.decode),
                route("/pictures/{name:path}", "GET", self.picture),
            ],
            exception_handlers={HTTPException: _refuse},
        )

    def _measured(self, path: str, handler: Callable) -> Callable:
        """The handler with its failures as answers, counted and timed."""

        @functools.wraps(handler)
        async def measured(request: Request) -> Response:
            start = time.perf_counter()
            try:
                response = await handler(request)
            except HTTPException as error:
                response = _refuse(request, error)
            except JndError as error:
                response = _refuse(request, HTTPException(400, str(error)))
            except ClientDisconnect:
                response = _refuse(
                    request, HTTPException(400, "The connection ended within the request: send it again.")
                )
            except MemoryError:
                response = _refuse(request, _busy("There is not enough memory for this request now"))
            self._count.labels(path, response.status_code).inc()
            self._seconds.labels(path).observe(time.perf_counter() - start)
            return response

        return measured

    async def health(self, request: Request) -> Response:
        """Name and hash of the model; 200 as long as the service answers."""
        return JSONResponse({"status": "ok", "model": self._codec.name, "hash": self._codec.hash})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(
            prometheus_client.generate_latest(self._registry), media_type=prometheus_client.CONTENT_TYPE_LATEST
        )

    async def encode(self, request: Request) -> Response:
        """An image file to a .jnd file."""
        goal = _goal(request)
        async with self._body(request) as data:
            with self._place():
                file = await self._work(self._encode, data, goal)
        return _Answer(self, file, "application/octet-stream")

    async def decode(self, request: Request) -> Response:
        """A .jnd file to an image file."""
        kind = request.query_params.get("format", "png")
        if kind not in _MEDIA:
            raise HTTPException(400, f"Ask for one of the formats {', '.join(_MEDIA)}, not {kind!r}.")
        async with self._body(request) as data:
            image = await self._shown(data, kind, {})
        return _Answer(self, image, _MEDIA[kind])

    async def picture(self, request: Request) -> Response:
        """A stored .jnd file in a format that the browser accepts, for caches to keep."""
        data = await anyio.to_thread.run_sync(self._stored, request.path_params["name"])
        kind = self._kind(request, data)
        # Weak: an image that is decoded in a batch may differ by a level where it was about to be rounded.
        tag = f'W/"{hashlib.sha256(data).hexdigest()[:32]}-{kind}"'
        headers = {"ETag": tag, "Cache-Control": "public, max-age=86400", "Vary": "Accept"}
        if tag in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        return _Answer(self, await self._shown(data, kind, _GATEWAY[kind]), _MEDIA[kind], headers)

    def _stored(self, name: str) -> bytes:
        missing = HTTPException(404, f"There is no stored picture {name!r}.")
        if self._store is None:
            raise missing
        try:
            path = (self._store / name).resolve()
            if path.suffix != ".jnd" or not path.is_relative_to(self._store.resolve()):
                raise missing
            return path.read_bytes()
        except (OSError, ValueError):  # no such file, or a name that no file can have
            raise missing from None

    def _kind(self, request: Request, data: bytes) -> str:
        if "image/webp" in request.headers.get("accept", ""):
            return "webp"
        return "png" if "alpha" in bitstream.unpack(data)[1] else "jpg"

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, counted as held for as long as the context lasts."""
        limits, body = self._limits, bytearray()
        too_large = HTTPException(413, f"Send at most {limits.body} bytes.")
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limits.body:
            raise too_large
        try:
            try:
                async with asyncio.timeout(limits.patience):
                    async for chunk in request.stream():
                        if len(body) + len(chunk) > limits.body:
                            raise too_large
                        if self._held + len(chunk) > limits.held:
                            raise _busy("Too many requests are being sent")
                        self._held += len(chunk)
                        body += chunk
            except TimeoutError:
                raise HTTPException(
                    408, f"Send the whole request within {limits.patience:g} seconds.", headers={"Connection": "close"}
                ) from None
            if not body:
                raise HTTPException(400, "Send a file as the body of the request: it was empty.")
            yield bytes(body)
        finally:
            self._held -= len(body)

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Counts so many bytes as held for as long as the context lasts."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the queue, if there is one."""
        if self._busy >= self._limits.queue:
            raise _busy("The service is busy")
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function in one of the worker threads."""
        async with self._workers:
            return await anyio.to_thread.run_sync(function, *arguments)

    async def _shown(self, data: bytes, kind: str, options: dict[str, Any]) -> bytes:
        """The image file of a .jnd file; small images are decoded in batches."""
        with self._place():
            header, chunks = await self._work(bitstream.unpack, data)
            self._check_pixels(header.width, header.height)
            write = lambda pixels: images.format_image(images.from_chunks(pixels, chunks), f".{kind}", **options)
            if max(header.width, header.height) > TILE * BLOCK or {"regions", "residual"} & chunks.keys():
                # In one go: what waits between two steps must be small, and a batch is of whole images of one quality.
                return await self._work(lambda: write(self._codec.decode(data)))
            latents = await self._work(self._codec.decode_latents, header, chunks)
            pixels = await self._synthesised(latents.y_hat, header.quality)
            return await self._work(write, pixels[: header.height, : header.width])

    async def _synthesised(self, y_hat: np.ndarray, level: int) -> np.ndarray:
        """`ImageCodec.synthesise`, in a batch with others of this size if enough of them wait for a worker, else alone.

        Never in a batch of another size: each is compiled anew.
        """
        own: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        waiting, size = self._waiting[y_hat.shape], self._limits.batch
        waiting[own] = y_hat, level
        try:
            async with self._workers:
                if own in waiting:
                    others = [future for future in waiting if future is not own]
                    batch = [own, *others[: size - 1]] if len(waiting) >= size else [own]
                    latents, levels = zip(*(waiting.pop(future) for future in batch))
                    try:
                        decoded = await anyio.to_thread.run_sync(
                            self._codec.synthesise_batch, np.stack(latents), levels
                        )
                    except Exception as error:
                        decoded = [error] * len(batch)
                    for future, image in zip(batch, decoded):
                        if future.cancelled():
                            continue
                        elif isinstance(image, Exception):
                            future.set_exception(image)
                        else:
                            future.set_result(image)
            return await own
        finally:
            waiting.pop(own, None)

    def _encode(self, data: bytes, goal: dict[str, Any]) -> bytes:
        self._check_pixels(*_image_size(data))
        picture = images.parse_image(data)
        return self._codec.encode(picture.pixels, **goal, extras=images.to_chunks(picture))

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._limits.pixels:
            raise HTTPException(
                413, f"Send an image of at most {self._limits.pixels} pixels: {width}x{height} are more."
            )


class _Answer(Response):
    """Bytes that are held until the client has taken them, but for those on their way."""

    def __init__(self, service: Service, data: bytes, media_type: str, headers: dict[str, str] | None = None):
        super().__init__(data, headers=headers, media_type=media_type)
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.holding(len(self.body)):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _PART):
                await send({"type": "http.response.body", "body": self.body[start : start + _PART], "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class _Connection(H11Protocol):
    """A connection that ends if, for `patience` seconds, no head of a request comes or no part of an answer is taken."""

    def __init__(self, patience: float, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._patience, self._timer, self._drained = patience, None, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait(self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._drained = self.loop.time() + _DRAIN * self._patience
        self._wait(self.timeout_keep_alive + self._patience)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The rest of a refused body: a client whose connection ends while it sends may never see the answer.
        if self.conn.their_state is h11.SEND_BODY and self.loop.time() < self._drained:
            self._wait(self._patience)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(self._patience)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        at_work = self.cycle is not None and not self.cycle.response_complete
        if self.flow.write_paused or not at_work:
            self.transport.abort()


def _image_size(data: bytes) -> tuple[int, int]:
    """Width and height that an image file declares; zeros where `parse_image` will say what is wrong."""
    try:
        with Image.open(bytesio.BytesIO(data), formats=images.FORMATS) as image:
            return image.size
    except Exception:
        return 0, 0


def _busy(what: str) -> HTTPException:
    return HTTPException(503, f"{what}: try again in a second.", headers={"Retry-After": "1"})


def _refuse(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _goal(request: Request) -> dict[str, Any]:
    """The quality or target that a request asks for, as arguments of `ImageCodec.encode`."""
    unknown = set(request.query_params) - {"quality", "target"}
    if unknown:
        raise HTTPException(400, f"Ask for quality or target, not {', '.join(sorted(unknown))}.")
    goal: dict[str, Any] = dict(request.query_params)
    if "quality" in goal:
        try:
            goal["quality"] = float(goal["quality"])
        except ValueError:
            raise HTTPException(400, f"Quality must be a number from 0 to 100, not {goal['quality']!r}.") from None
    return goal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax serve`."""
    limits = Limits()
    parser.add_argument("model", metavar="MODEL", help="name or file of a model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="(default: %(default)s; 0: any that is free)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="folder of .jnd files to show under /pictures")
    parser.add_argument("--max-megabytes", type=float, default=limits.body / 2**20, help="of a request (default: 32)")
    parser.add_argument("--max-megapixels", type=float, default=limits.pixels / 1e6, help="of an image (default: 64)")
    parser.add_argument(
        "--queue",
        type=int,
        default=limits.queue,
        help="requests that may be worked on or wait for it (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=limits.workers,
        help="requests that are worked on at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=limits.batch,
        help="small images of one size that are decoded together (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=limits.patience,
        metavar="SECONDS",
        help="in which a client must have sent its request (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    limits = Limits(
        body=int(args.max_megabytes * 2**20),
        pixels=int(args.max_megapixels * 1e6),
        queue=args.queue,
        workers=args.workers,
        batch=args.batch,
        patience=args.patience,
    )
    service = Service(jnd_jax.load(args.model), limits, args.store)
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with socket.create_server((args.host, args.port), family=family) as listening:
        print(f"http://{args.host}:{listening.getsockname()[1]}", flush=True)
        service.server(log_level="error").run([listening])
    return 0
