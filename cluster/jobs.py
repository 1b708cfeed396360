"""At most one job at a time for each process, and a shared way of ending one.

A job is a coroutine about one worker or router: placing, polling, retiring or burying it. It must
not raise for anything that can happen; what it found out is its result. Whoever owns the process
starts no second job while one runs, so no two of them ever race for a handle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

from baton.errors import BatonError, Reason, StartupError
from baton.tasks import Tasks
from cluster.plan import Plan, Time
from cluster.ports import Handle

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

Failure = BatonError | StartupError


def is_late(error: Failure) -> bool:
    """Whether this only means that no answer came in time."""
    return isinstance(error, BatonError) and error.reason is Reason.DEADLINE_EXCEEDED


def failure_of(error: Mapping[str, str] | None) -> Failure:
    """What a process says of its own end, from the wire form of its error."""
    if error is None:
        return BatonError(Reason.ENGINE_FAILED, "it died without a word")
    return StartupError.from_wire(error) if "fault" in error else BatonError.from_wire(error)


class Jobs(Generic[_Result]):
    """The jobs in flight, by the id of the process that each is about."""

    def __init__(self, owner: str) -> None:
        self._tasks = Tasks(owner)
        self._running: dict[str, asyncio.Task[_Result]] = {}

    def busy(self, key: str) -> bool:
        """Whether a job about this process has not been collected yet."""
        return key in self._running

    def start(self, key: str, what: str, job: Coroutine[Any, Any, _Result]) -> None:
        """Starts a job; the process must not be busy."""
        assert key not in self._running, key
        self._running[key] = self._tasks.spawn(job, f"{what} {key}")

    async def replace(self, key: str, what: str, job: Coroutine[Any, Any, _Result]) -> None:
        """Cancels the running job, waits until it has ended, and starts this one."""
        running = self._running.pop(key, None)
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        self.start(key, what, job)

    def collect(self) -> list[tuple[str, _Result]]:
        """The jobs that have ended, with what they found out. A job's exception is raised."""
        done = [(key, task) for key, task in self._running.items() if task.done()]
        for key, _ in done:
            del self._running[key]
        return [(key, task.result()) for key, task in done]

    @property
    def tasks(self) -> tuple[asyncio.Task[_Result], ...]:
        """What `first_end` waits for."""
        return tuple(self._running.values())

    async def aclose(self) -> None:
        """Cancels what runs."""
        self._running.clear()
        await self._tasks.aclose()


async def first_end(tasks: Sequence[asyncio.Task[Any]], wait_s: float, time: Time) -> None:
    """Returns when the first of them has ended, at the latest after `wait_s`."""
    if tasks:
        await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    else:
        await time.pause(wait_s)


async def end_gently(handle: Handle, plan: Plan, time: Time, drain_s: float) -> None:
    """Lets one process drain for at most `drain_s`, stops it, and kills what is left. Never raises.

    The caller owns the handle until this returns; then the process is gone.
    """
    try:
        if drain_s > 0:
            await wait_drained(handle, plan, time, drain_s)
        await handle.call("stop", plan.stop_timeout_s, timeout_s=plan.stop_timeout_s + 5)
    except (BatonError, StartupError) as error:
        _log.info("process %d did not stop by itself: %s", handle.pid, error)
        await handle.kill()
    else:
        await handle.leave()


async def wait_drained(handle: Handle, plan: Plan, time: Time, drain_s: float) -> bool:
    """Asks a process to drain and waits; False when `drain_s` was not enough. Raises BatonError."""
    await handle.call("drain", drain_s, timeout_s=plan.call_timeout_s)
    until = time.now() + drain_s
    while not await handle.call("drained", timeout_s=plan.call_timeout_s):
        if time.now() >= until:
            return False
        await time.pause(min(0.2, plan.health_interval_s))
    return True
