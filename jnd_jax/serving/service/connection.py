"""A connection that slow or silent clients cannot keep open."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# The rest of a refused body is read and discarded for this many times the patience.
_DRAIN = 10


class PatientConnection(H11Protocol):
    """Closes if no request head arrives, or no part of an answer is taken, for `patience` seconds."""

    def __init__(self, patience: float, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._patience, self._drained = patience, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait(self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._drained = self.loop.time() + _DRAIN * self._patience
        self._wait(self.timeout_keep_alive + self._patience)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A client that loses the connection while it still sends a refused body may never see the answer.
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
