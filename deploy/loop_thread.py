"""An event loop in a thread of its own, for processes whose methods must answer at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

from baton.errors import BatonError, StartupError, StartupFault

_T = TypeVar("_T")
_log = logging.getLogger("baton.process")
_LOOK_EVERY_S = 0.2


async def until(true: Callable[[], bool], most_s: float) -> bool:
    """Waits for something that nobody announces; False if it did not come within `most_s`."""
    try:
        async with asyncio.timeout(most_s):
            while not true():  # noqa: ASYNC110 - it may come true in another process
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        return False
    return True


class LoopThread:
    """Runs one process's coroutines. The loop ends with `stop`, the thread with the process."""

    def __init__(self, name: str) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(
        self,
        main: Callable[[], Coroutine[Any, Any, None]],
        failed: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Run the start-up, once; `failed` hears the wire form of why it ended badly."""
        if self._thread.ident is None:
            self._thread.start()
            self.submit(_guarded(main, failed))

    def submit(self, coro: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop, without waiting for it."""
        self.loop.call_soon_threadsafe(function, *args)

    def stop(self, last: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Run `last`, then end the loop. Raises TimeoutError when that takes longer."""
        if not self._thread.is_alive():
            last.close()
            return
        self.submit(last).result(timeout_s)
        self.call(self.loop.stop)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


async def _guarded(
    main: Callable[[], Coroutine[Any, Any, None]], failed: Callable[[Mapping[str, str]], None]
) -> None:
    try:
        await main()
    except (StartupError, BatonError) as error:
        failed(error.to_wire())
    except Exception as error:
        # The outermost shell of a process: whatever it is, the controller must hear of it.
        _log.exception("start-up failed")
        failed(StartupError(StartupFault.ENGINE_CRASHED, f"{error}").to_wire())
