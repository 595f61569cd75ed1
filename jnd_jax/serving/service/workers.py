"""Worker processes under watch: one that exceeds its memory or CPU limit is killed with its job, and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import psutil

from jnd_jax.serving.service import jobs
from jnd_jax.serving.service.limits import Limits
from jnd_jax.serving.service.turns import Full, Turns

_LOG = logging.getLogger(__name__)
# Seconds between two checks of a worker, in which it can exceed its memory limit.
_LOOK = 0.02
# CPU seconds in which a worker must have loaded its model and compiled.
_START = 600.0
# A job that does not use the processor is killed after this many times its CPU seconds.
_STALLED = 10
# A worker that uses more than this share of its memory limit between two jobs is replaced.
_WORN = 0.6


class Busy(Exception):
    """The queue is full, or no worker was free in time."""


class TooExpensive(Exception):
    """A job exceeded its memory or CPU limit; the message is for the client."""


class Died(Exception):
    """The worker ended by itself."""


class Worker:
    """One process. `do` blocks; the other methods do not."""

    def __init__(self, models: int):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=jobs.serve, args=(theirs, models), daemon=True)
        self._process.start()
        theirs.close()
        self._watched = psutil.Process(self._process.pid)

    @property
    def memory(self) -> int:
        """Resident bytes; 0 once it has ended."""
        with contextlib.suppress(psutil.Error):
            return self._watched.memory_info().rss
        return 0

    def _cpu(self) -> float:
        with contextlib.suppress(psutil.Error):
            times = self._watched.cpu_times()
            return times.user + times.system
        return 0.0

    def do(self, job: Any, cpu_seconds: float, memory: int) -> jobs.Result | jobs.Failure:
        """Does one job.

        Args:
          job: as `jobs.serve` takes it.
          cpu_seconds: limit of the job.
          memory: limit of the worker's resident bytes.

        Raises:
          TooExpensive: the job exceeded a limit; the worker was killed.
          Died: the worker ended by itself.
        """
        try:
            self._connection.send(job)
            start, cpu = time.monotonic(), self._cpu()
            while not self._connection.poll(_LOOK):
                if self.memory > memory:
                    self.end()
                    raise TooExpensive(
                        f"This request needs more than {memory >> 20} MiB of memory: send a smaller image."
                    )
                if self._cpu() - cpu > cpu_seconds or time.monotonic() - start > _STALLED * cpu_seconds:
                    self.end()
                    raise TooExpensive(
                        f"This request needs more than {cpu_seconds:g} CPU seconds: send a smaller image, or ask for "
                        "a quality in place of a target."
                    )
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise Died from error

    def end(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()


@dataclass(eq=False)
class _Ticket:
    job: Any
    came: float = field(default_factory=time.monotonic)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True)
class Done:
    """A job's outcome, and the seconds that it waited and worked."""

    outcome: jobs.Result | jobs.Failure
    waited: float
    worked: float


class Pool:
    """Workers behind one queue.

    Attributes:
      turns: the queue.
      replaced: workers that were replaced, by reason: a request too "expensive", one that "died", one "worn" by growth.
      busy: workers that do a job.
    """

    def __init__(self, limits: Limits, warm: Callable[[], Sequence[jobs.Warm]]):
        """`warm`: what a worker does before its first job."""
        self._limits, self._warm = limits, warm
        self.turns: Turns[_Ticket] = Turns({"encode": limits.queue, "decode": limits.queue, "picture": limits.pictures})
        self.replaced: dict[str, int] = dict.fromkeys(("expensive", "died", "worn"), 0)
        self.busy = 0
        self._workers: dict[int, Worker] = {}

    @property
    def size(self) -> int:
        """Workers that are warm."""
        return len(self._workers)

    @property
    def memory(self) -> int:
        """Resident bytes of all warm workers."""
        return sum(worker.memory for worker in list(self._workers.values()))

    @contextlib.asynccontextmanager
    async def running(self):
        """Starts the workers, and ends them with the context."""
        async with anyio.create_task_group() as group:
            for number in range(self._limits.workers):
                group.start_soon(self._run, number)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    async def do(self, kind: str, job: Any) -> Done:
        """Has a job of a class done.

        Raises:
          Busy: see there.
          TooExpensive, Died: see `Worker.do`.
        """
        ticket = _Ticket(job)
        try:
            await self.turns.put(kind, ticket)
            async with asyncio.timeout(self._limits.wait):
                await ticket.started.wait()
        except (Full, TimeoutError):
            raise Busy from None
        finally:
            self.turns.discard(kind, ticket)
        return await ticket.done

    async def _run(self, number: int) -> None:
        """One worker after another, each for as long as it lasts."""
        while True:
            worker = await anyio.to_thread.run_sync(Worker, self._limits.models)
            try:
                await self._prepare(worker)
                self._workers[number] = worker
                self.replaced[await self._use(worker)] += 1
            except (Died, TooExpensive) as error:
                self.replaced["died"] += 1
                _LOG.error("A worker cannot start: %s", error)
                await asyncio.sleep(1.0)  # The next one may fail too, and must not keep the machine busy.
            finally:
                self._workers.pop(number, None)
                worker.end()

    async def _prepare(self, worker: Worker) -> None:
        for job in self._warm():
            outcome = await anyio.to_thread.run_sync(
                worker.do, job, _START, self._limits.memory, abandon_on_cancel=True
            )
            if isinstance(outcome, jobs.Failure):
                raise Died(outcome.message)

    async def _use(self, worker: Worker) -> str:
        """Does jobs until the worker has to be replaced; the reason."""
        while worker.memory <= _WORN * self._limits.memory:
            kind, ticket = await self.turns.get()
            start = time.monotonic()
            ticket.started.set()
            self.busy += 1
            try:
                outcome = await anyio.to_thread.run_sync(
                    worker.do, ticket.job, self._limits.cpu_seconds, self._limits.memory, abandon_on_cancel=True
                )
                self._finish(ticket, Done(outcome, start - ticket.came, time.monotonic() - start))
            except (TooExpensive, Died) as error:
                self._finish(ticket, error)
                return "died" if isinstance(error, Died) else "expensive"
            finally:
                self.busy -= 1
                self.turns.charge(kind, time.monotonic() - start)
        return "worn"

    def _finish(self, ticket: _Ticket, outcome: Done | Exception) -> None:
        if ticket.done.cancelled():
            return
        if isinstance(outcome, Exception):
            ticket.done.set_exception(outcome)
        else:
            ticket.done.set_result(outcome)
