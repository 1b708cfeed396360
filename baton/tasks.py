"""Background tasks that cannot vanish.

`Tasks` owns every asyncio task of one component: named, referenced, and cancelled with a bound
when the component closes. A task that raises is a fault, and so is an eternal task that ends.
Faults are logged with their traceback and handed to whoever asked. `asyncio.create_task` is used
here and nowhere else.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskFault:
    """A task that ended as it should not have.

    `error` is what it raised; None when an eternal task returned or was cancelled from outside.
    """

    task: str
    error: BaseException | None


OnFault = Callable[[TaskFault], None]


class Tasks:
    """The owner of a component's tasks. Belongs to one event loop; use as a context or `aclose`."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    def spawn(
        self,
        coro: Coroutine[Any, Any, _Result],
        name: str,
        *,
        eternal: bool = False,
        on_fault: OnFault | None = None,
    ) -> asyncio.Task[_Result]:
        """Starts a task. Raises RuntimeError once closing has begun.

        `eternal`: it must run until `aclose`. `on_fault` runs in the event loop, once at most, and
        not while closing; a caller who awaits the task gets its exception as well.
        """
        if self._closing:
            coro.close()
            raise RuntimeError(f"{self._owner} is closing and starts no task {name!r}")
        task = asyncio.create_task(coro, name=f"{self._owner}/{name}")
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(done, on_fault, eternal=eternal))
        return task

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks that have not ended, in order."""
        return tuple(sorted(task.get_name() for task in self._running))

    async def aclose(self, timeout_s: float = 5.0) -> tuple[str, ...]:
        """Cancels all tasks and waits for them, at most `timeout_s` seconds.

        Returns the names of those that would not end, which are logged. The task that calls this
        is left alone. May be called again.
        """
        self._closing = True
        waiting = self._running - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        stuck = (await asyncio.wait(waiting, timeout=timeout_s))[1] if waiting else set()
        for task in stuck:
            _log.error(
                "task %s did not end %s s after its cancellation", task.get_name(), timeout_s
            )
        return tuple(sorted(task.get_name() for task in stuck))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _ended(self, task: asyncio.Task[Any], on_fault: OnFault | None, *, eternal: bool) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        # A plain task that somebody cancelled did what it was told.
        if error is not None or (eternal and not self._closing):
            self._report(TaskFault(task.get_name(), error), on_fault)

    def _report(self, fault: TaskFault, on_fault: OnFault | None) -> None:
        if fault.error is None:
            _log.error("eternal task %s ended", fault.task)
        else:
            _log.error("task %s failed", fault.task, exc_info=fault.error)
        if on_fault is not None and not self._closing:
            on_fault(fault)
