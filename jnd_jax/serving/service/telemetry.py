"""Prometheus metrics, and an access log with one JSON object per line."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import prometheus_client
from prometheus_client.core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCESS = logging.getLogger("jnd_jax.access")
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}")
# W3C Trace Context, 3.2: version, trace id, parent id, flags.
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OTHER = "other"


@dataclass
class Record:
    """What handlers add to a request's log line.

    Attributes:
      model: hash of the model that coded the image.
      pixels: of the image.
      cached: whether the answer was made for another request.
      waited: seconds in the queue.
      worked: seconds in a worker.
    """

    model: str | None = None
    pixels: int | None = None
    cached: bool | None = None
    waited: float | None = None
    worked: float | None = None


def record_of(scope: Scope) -> Record:
    """The record of a request."""
    return scope["jnd_jax.record"]


class Metrics:
    """Counters and histograms of requests."""

    def __init__(self, state: Callable[[], Iterable[Metric]]):
        """`state`: returns further metrics at each scrape."""
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.registry.register(_Collector(state))
        make = lambda kind, name, text, labels, **more: kind(name, text, labels, registry=self.registry, **more)
        counter, histogram = prometheus_client.Counter, prometheus_client.Histogram
        self.requests = make(counter, "jnd_requests", "Requests answered", ("route", "method", "status"))
        self.seconds = make(
            histogram,
            "jnd_request_duration_seconds",
            "Seconds from a request's head to the end of its answer",
            ("route",),
            buckets=_SECONDS,
        )
        self.received = make(counter, "jnd_request_bytes", "Bytes of the bodies of requests", ("route",))
        self.sent = make(counter, "jnd_response_bytes", "Bytes of the bodies of answers", ("route",))
        self.pixels = make(counter, "jnd_pixels", "Pixels encoded and decoded", ("class", "model"))
        self.waited = make(histogram, "jnd_queue_seconds", "Seconds in the queue", ("class",), buckets=_SECONDS)
        self.worked = make(histogram, "jnd_work_seconds", "Seconds in a worker", ("class",), buckets=_SECONDS)


class _Collector:
    def __init__(self, state: Callable[[], Iterable[Metric]]):
        self.collect = state


class Telemetry:
    """ASGI middleware around everything: counts, times and logs each request, and gives it an id (X-Request-ID).

    The id is the client's, else the trace id of its `traceparent`, else a random one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Iterable[str]):
        """`routes`: paths that are counted by themselves; "/a/{name}" stands for all below "/a/"."""
        self._app, self._metrics = app, metrics
        self._exact = {route for route in routes if "{" not in route}
        self._below = {route.partition("{")[0]: route for route in routes if "{" in route}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        trace = _TRACE.fullmatch(headers.get("traceparent", ""))
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else trace[1] if trace else uuid.uuid4().hex
        counts = {"status": 500, "received": 0, "sent": 0}
        scope["jnd_jax.record"] = record = Record()

        async def receive_counted() -> Message:
            message = await receive()
            counts["received"] += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                counts["status"] = message["status"]
                added = [(b"x-request-id", request_id.encode("latin-1")), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            counts["sent"] += len(message.get("body", b""))
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive_counted, send_counted)
        finally:
            seconds = time.perf_counter() - start
            self._count(scope, counts, seconds)
            _log(scope, trace, request_id, counts, seconds, record)

    def _count(self, scope: Scope, counts: dict[str, int], seconds: float) -> None:
        route, metrics = self._route(scope["path"]), self._metrics
        metrics.requests.labels(route, scope["method"] if route != _OTHER else _OTHER, counts["status"]).inc()
        metrics.seconds.labels(route).observe(seconds)
        metrics.received.labels(route).inc(counts["received"])
        metrics.sent.labels(route).inc(counts["sent"])

    def _route(self, path: str) -> str:
        if path in self._exact:
            return path
        return next((route for beginning, route in self._below.items() if path.startswith(beginning)), _OTHER)


def _log(
    scope: Scope,
    trace: re.Match[str] | None,
    request_id: str,
    counts: dict[str, int],
    seconds: float,
    record: Record,
) -> None:
    if not ACCESS.isEnabledFor(logging.INFO):
        return
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": request_id,
        "client": (scope.get("client") or ("",))[0],
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        **counts,
        "seconds": round(seconds, 4),
    }
    if trace:
        line |= {"trace_id": trace[1], "parent_id": trace[2]}
    for name, value in vars(record).items():
        if value is not None:
            line[name] = round(value, 4) if isinstance(value, float) else value
    ACCESS.info(json.dumps(line))
