"""The routes of the service.

A bad request gets a 4xx, a fault of the service a 5xx, an overload 503 with Retry-After, each with {"error": "a sentence"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import anyio
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jnd_jax import __version__, bitstream
from jnd_jax.errors import JndError
from jnd_jax.serving.service import jobs, negotiation
from jnd_jax.serving.service.cache import Cache
from jnd_jax.serving.service.connection import PatientConnection
from jnd_jax.serving.service.limits import Limits
from jnd_jax.serving.service.models import Known, Models
from jnd_jax.serving.service.telemetry import Metrics, Telemetry, record_of
from jnd_jax.serving.service.workers import Busy, Died, Pool, TooExpensive

OPENAPI = Path(__file__).with_name("openapi.json")
_PART = 65536
_PICTURE = "/pictures/{name:path}"
# For answers that must not be cached.
_FRESH = {"Cache-Control": "no-store"}


class Service:
    """The routes and their shared state."""

    def __init__(
        self,
        models: Models,
        limits: Limits,
        store: Path | None = None,
        *,
        warm: Sequence[tuple[int, int]] = (),
        origins: Sequence[str] = (),
    ):
        """Raises JndError if there is no folder `store`.

        Args:
          models: models to decode with; their default encodes.
          limits: bounds on requests and memory.
          store: folder of .jnd files shown under /pictures.
          warm: image sizes (width, height) to compile for ahead.
          origins: web origins whose scripts may read answers, or "*" (CORS).
        """
        if store is not None and not store.is_dir():
            raise JndError(f"There is no folder {store}: name one with .jnd files, or make it.")
        self._models, self._limits, self._store, self._origins = models, limits, store, list(origins)
        self._held = 0
        self._pool = Pool(limits, lambda: [jobs.Warm(models.default, tuple(warm))])
        self._cache: Cache[jobs.Result] = Cache(limits.cache)
        self._metrics = Metrics(self._state)

    def server(self, **options: Any) -> uvicorn.Server:
        """The server of this service; `options` are those of uvicorn.Config, such as host and port."""
        connection: Any = functools.partial(PatientConnection, self._limits.patience)
        return uvicorn.Server(
            uvicorn.Config(
                self._app(),
                http=connection,
                ws="none",
                access_log=False,
                server_header=False,
                limit_concurrency=self._limits.connections,
                **options,
            )
        )

    def reload(self) -> list[str]:
        """Reads the model files again; their names. Raises JndError, and changes nothing, if one is damaged."""
        self._models.reload()
        return [known.name for known in self._models]

    def _app(self) -> Starlette:
        routes = {
            "/health": ("GET", self.health),
            "/ready": ("GET", self.ready),
            "/metrics": ("GET", self.metrics),
            "/openapi.json": ("GET", self.openapi),
            "/encode": ("POST", self.encode),
            "/decode": ("POST", self.decode),
            _PICTURE: ("GET", self.picture),
        }
        middleware = [
            Middleware(Telemetry, metrics=self._metrics, routes=[path.replace(":path", "") for path in routes])
        ]
        if self._origins:
            exposed = ["ETag", "Content-Disposition", "Retry-After", "X-Request-ID"]
            middleware.append(
                Middleware(
                    CORSMiddleware, allow_origins=self._origins, allow_methods=["GET", "POST"], expose_headers=exposed
                )
            )
        handlers: dict[Any, Any] = {HTTPException: _refuse, Exception: _fail}
        return Starlette(
            routes=[
                Route(path, _client_errors_as_400(handler), methods=[method])
                for path, (method, handler) in routes.items()
            ],
            middleware=middleware,
            exception_handlers=handlers,
            lifespan=lambda app: self._pool.running(),
        )

    async def health(self, request: Request) -> Response:
        """Liveness: always 200, with the name and hash of the model that encodes."""
        _check_parameters(request, ())
        known = self._models.default
        return JSONResponse({"status": "ok", "model": known.name, "hash": known.hash}, headers=_FRESH)

    async def ready(self, request: Request) -> Response:
        """Readiness: 200 if a worker is warm, else 503."""
        _check_parameters(request, ())
        if not self._pool.size:
            raise HTTPException(503, "No worker is ready: try again in a second.", headers={"Retry-After": "1"})
        return JSONResponse({"status": "ready"}, headers=_FRESH)

    async def metrics(self, request: Request) -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST, headers=_FRESH)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI 3.1 description of the routes."""
        _check_parameters(request, ())
        return Response(OPENAPI.read_bytes(), media_type="application/json")

    async def encode(self, request: Request) -> Response:
        """Encodes an image file to a .jnd file."""
        _check_parameters(request, ("quality", "target", "model"))
        goal = _goal(request)
        name = request.query_params.get("model")
        known = self._models.default if name is None else self._models.named(name)
        pixels = self._limits.target_pixels if "target" in goal else self._limits.pixels
        async with self._body(request) as data:
            result = await self._made(request, "encode", jobs.Encode(data, known, goal, pixels), known)
        headers = {**_FRESH, "Content-Disposition": negotiation.disposition("attachment", "image.jnd")}
        return _Answer(self, result.data, "image/vnd.jnd", headers)

    async def decode(self, request: Request) -> Response:
        """Decodes a .jnd file to an image file."""
        _check_parameters(request, ("format", "width"))
        kind, width = request.query_params.get("format", "png"), _width(request)
        if kind not in negotiation.MEDIA:
            raise HTTPException(400, f"Ask for one of the formats {', '.join(negotiation.MEDIA)}, not {kind!r}.")
        async with self._body(request) as data:
            header, _ = bitstream.unpack(data)
            known = self._decodable(header)
            result = await self._made(
                request, "decode", jobs.Decode(data, known, kind, negotiation.DECODED[kind], width), known
            )
        headers = {**_FRESH, "Content-Disposition": negotiation.disposition("inline", f"image.{kind}")}
        return _Answer(self, result.data, negotiation.MEDIA[kind], headers)

    async def picture(self, request: Request) -> Response:
        """Shows a stored .jnd file in a form that the browser accepts; caches may keep the answer."""
        _check_parameters(request, ("width",))
        name, width = request.path_params["name"], _width(request)
        if not request.scope["path"].endswith(name):  # The route leaves out a line end.
            raise HTTPException(404)
        data = await anyio.to_thread.run_sync(self._stored, name)
        try:
            header, chunks = bitstream.unpack(data)
            known = self._decodable(header)
        except (JndError, HTTPException) as error:
            reason = getattr(error, "detail", str(error))
            raise HTTPException(500, f"The stored picture {name!r} cannot be shown: {reason}") from error
        kind = negotiation.choose(request.headers.get("accept"), "alpha" in chunks)
        options = negotiation.GATEWAY[kind]
        digest = hashlib.sha256(data).hexdigest()
        tag = negotiation.entity_tag(digest, header.model, kind, {**options, "width": width}, __version__)
        headers = {"ETag": tag, "Cache-Control": "public, max-age=86400", "Vary": "Accept"}
        if negotiation.not_modified(request, tag):
            return Response(status_code=304, headers=headers)
        headers["Accept-Ranges"] = "none"
        headers["Content-Disposition"] = negotiation.disposition("inline", f"{Path(name).stem}.{kind}")
        if request.method == "HEAD":
            return _Head(negotiation.MEDIA[kind], headers)
        result = await self._made(request, "picture", jobs.Decode(data, known, kind, options, width), known, digest)
        return _Answer(self, result.data, negotiation.MEDIA[kind], headers)

    async def _made(
        self, request: Request, kind: str, job: jobs.Encode | jobs.Decode, known: Known, digest: str = ""
    ) -> jobs.Result:
        """The result of a job: from the cache, from an equal job in flight, or by a worker.

        Args:
          request: to answer.
          kind: class of the queue.
          job: to do.
          known: the job's model.
          digest: SHA-256 of the job's data, if it is known.
        """
        record = record_of(request.scope)
        record.model, record.cached = known.hash, True

        async def work() -> jobs.Result:
            record.cached = False
            done = await self._pool.do(kind, job)
            record.waited, record.worked = done.waited, done.worked
            self._metrics.waited.labels(kind).observe(done.waited)
            self._metrics.worked.labels(kind).observe(done.worked)
            if isinstance(done.outcome, jobs.Failure):
                raise _failure(done.outcome, stored=kind == "picture")
            self._metrics.pixels.labels(kind, known.name).inc(done.outcome.pixels)
            return done.outcome

        try:
            result = await self._cache.get((digest or hashlib.sha256(job.data).hexdigest(), repr(job)), work)
        except Busy:
            raise _busy("The service is busy") from None
        except TooExpensive as error:
            raise HTTPException(413 if kind != "picture" else 500, str(error)) from None
        except Died:
            raise HTTPException(500, "The service's worker ended within this request: its log may say why.") from None
        record.pixels = result.pixels
        return result

    def _decodable(self, header: bitstream.Header) -> Known:
        """The model of a file; raises JndError if it is unknown, HTTPException if the file is beyond the limits."""
        known = self._models.of_file(header.model)
        if header.coder == "tfc":
            raise HTTPException(
                415, "This file is coded for TensorFlow: transcode it with `jnd-jax transcode --coder constriction`."
            )
        if header.width * header.height > self._limits.pixels:
            raise HTTPException(
                413,
                f"Send an image of at most {self._limits.pixels} pixels: {header.width}x{header.height} are more.",
            )
        return known

    def _stored(self, name: str) -> bytes:
        missing = HTTPException(404, f"There is no stored picture {name!r}: look at its name.")
        # One picture has one name, so that caches keep it once.
        if self._store is None or str(PurePosixPath(name)) != name:
            raise missing
        try:
            path = (self._store / name).resolve()
            if path.suffix != ".jnd" or not path.is_relative_to(self._store.resolve()):
                raise missing
            known = path.stat()
            if not stat.S_ISREG(known.st_mode):  # To open a pipe would wait for ever.
                raise missing
            if known.st_size > self._limits.body:
                raise HTTPException(500, f"The stored picture {name!r} is larger than {self._limits.body} bytes.")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, ValueError):  # no such file, or a name that no file can have
            raise missing from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise missing from None
            raise HTTPException(500, f"The stored picture {name!r} cannot be read: {error.strerror}.") from error

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, counted against `Limits.held` within the context."""
        limits, body = self._limits, bytearray()
        too_large = HTTPException(413, f"Send at most {limits.body} bytes.")
        if (coding := request.headers.get("content-encoding", "identity")) != "identity":
            raise HTTPException(415, f"Send the file as it is, without the Content-Encoding {coding}.")
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
        """Counts bytes against `Limits.held` within the context."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def _state(self) -> Iterator[Metric]:
        """Metrics of the queue, the workers, the cache and the models."""
        pool = self._pool
        yield GaugeMetricFamily("jnd_held_bytes", "Bytes of requests and answers held", value=self._held)
        yield GaugeMetricFamily("jnd_cache_bytes", "Bytes of answers kept", value=self._cache.size)
        yield GaugeMetricFamily("jnd_workers", "Workers that are ready", value=pool.size)
        yield GaugeMetricFamily("jnd_workers_busy", "Workers that do a job", value=pool.busy)
        yield GaugeMetricFamily("jnd_workers_memory_bytes", "Resident bytes of the workers", value=pool.memory)
        waiting = GaugeMetricFamily("jnd_queue_requests", "Requests that wait for a worker", labels=["class"])
        for kind, count in pool.turns.waiting().items():
            waiting.add_metric([kind], count)
        yield waiting
        replaced = CounterMetricFamily("jnd_workers_replaced", "Workers that were replaced", labels=["reason"])
        for reason, count in pool.replaced.items():
            replaced.add_metric([reason], count)
        yield replaced
        info = GaugeMetricFamily(
            "jnd_model_info", "Models that files are decoded with", labels=["name", "hash", "default"]
        )
        for known in self._models:
            info.add_metric([known.name, known.hash, str(known == self._models.default).lower()], 1)
        yield info


class _Answer(Response):
    """Response whose body is counted against `Limits.held` until it has been written to the socket."""

    def __init__(self, service: Service, data: bytes, media_type: str, headers: dict[str, str]):
        super().__init__(data, headers=headers, media_type=media_type)
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.holding(len(self.body)):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _PART):
                await send({"type": "http.response.body", "body": self.body[start : start + _PART], "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class _Head(Response):
    """Response to HEAD without Content-Length: the length is unknown, because the body is not made."""

    def __init__(self, media_type: str, headers: dict[str, str]):
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]


def _client_errors_as_400(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """The handler, with errors that the client can correct turned into 400."""

    @functools.wraps(handler)
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except JndError as error:
            raise HTTPException(400, str(error)) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The connection ended within the request: send it again.") from error

    return handle


def _failure(failure: jobs.Failure, stored: bool) -> HTTPException:
    status = {"bad": 400, "large": 413, "fault": 500}[failure.kind]
    return HTTPException(500 if stored else status, failure.message)


def _busy(what: str) -> HTTPException:
    return HTTPException(503, f"{what}: try again in a second.", headers={"Retry-After": "1"})


def _refuse(request: Request, error: HTTPException) -> Response:
    """An error as JSON; under /pictures with Vary, since it may depend on Accept."""
    headers = {**_FRESH, **(error.headers or {})}
    if request.url.path.startswith("/pictures/"):
        headers["Vary"] = "Accept"
    sentence = {
        "Not Found": f"There is nothing at {request.url.path}: see /openapi.json.",
        "Method Not Allowed": f"{request.url.path} does not take {request.method}: see /openapi.json.",
    }
    return JSONResponse({"error": sentence.get(error.detail, error.detail)}, error.status_code, headers=headers)


def _fail(request: Request, error: Exception) -> Response:
    return _refuse(request, HTTPException(500, "The service failed at this request: its log says how."))


def _check_parameters(request: Request, known: Collection[str]) -> None:
    given = [name for name, _ in request.query_params.multi_items()]
    if len(given) > len(set(given)):
        raise HTTPException(400, "Give each parameter of the query once.")
    unknown = sorted(set(given) - set(known))
    if unknown:
        allowed = f"Ask for {' or '.join(known)}" if known else "Ask for nothing"
        raise HTTPException(400, f"{allowed} in the query, not {', '.join(unknown)}.")


def _width(request: Request) -> int | None:
    """The width in pixels that a request asks for, if any."""
    text = request.query_params.get("width")
    if text is None:
        return None
    if not (len(text) <= 5 and text.isascii() and text.isdecimal() and 1 <= int(text) <= bitstream.MAX_SIDE):
        raise HTTPException(400, f"Width must be a whole number from 1 to {bitstream.MAX_SIDE}, not {text!r}.")
    return int(text)


def _goal(request: Request) -> dict[str, Any]:
    """Quality or target of a request, as arguments of `ImageCodec.encode`."""
    goal: dict[str, Any] = {key: value for key, value in request.query_params.items() if key != "model"}
    if "quality" in goal:
        if not re.fullmatch(r"\d{1,3}(\.\d)?", goal["quality"], re.ASCII):
            raise HTTPException(400, f"Quality must be a number from 0 to 100 in tenths, not {goal['quality']!r}.")
        goal["quality"] = float(goal["quality"])
    return goal
