"""Many prompts, a few at a time: the two runners behind `map`, and their progress bar."""

import asyncio
import operator
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TextIO

from baton_client.answers import Completion
from baton_client.errors import BatonError
from baton_client.prompts import Prompt

if TYPE_CHECKING:
    from baton_client.aio_stream import AsyncStream
    from baton_client.stream import Stream

Result = Completion | BatonError
_WIDTH = 24
_REDRAW_S = 0.1


class Progress:
    """How far a batch is: answers, failures, tokens; drawn on one line of `out`, or nowhere."""

    def __init__(self, total: int, out: TextIO | None, now: float) -> None:
        self._total = total
        self._out = out
        self._started, self._drawn = now, float("-inf")
        self._lock = threading.Lock()
        self._done = self._failed = self._tokens = 0

    def took(self, tokens: int) -> None:
        """Note new tokens."""
        with self._lock:
            self._tokens += tokens
            self._draw()

    def done(self, result: Result) -> None:
        """Note a result."""
        with self._lock:
            self._done += 1
            self._failed += isinstance(result, BatonError)
            self._draw()

    def finish(self) -> None:
        """Draw the line a last time and end it."""
        with self._lock:
            self._draw(end="\n")

    def line(self, now: float) -> str:
        """The bar, answers, tokens per second, time that is left, and failures."""
        seconds = max(now - self._started, 1e-9)
        parts = [f"{self._done}/{self._total or '?'}", f"{self._tokens / seconds:,.0f} tokens/s"]
        if self._total:
            filled = _WIDTH * self._done // max(self._total, self._done)
            parts.insert(0, "#" * filled + "." * (_WIDTH - filled))
        if self._done and self._total > self._done:
            left = round(seconds / self._done * (self._total - self._done))
            parts.append(f"{left // 60}:{left % 60:02d} left")
        return "  ".join([*parts, f"{self._failed} failed"] if self._failed else parts)

    def _draw(self, end: str = "") -> None:
        now = time.monotonic()
        if self._out is not None and (end or now - self._drawn >= _REDRAW_S):
            self._drawn = now
            self._out.write(f"\r\x1b[K{self.line(now)}{end}")
            self._out.flush()


class Batch:
    """The prompts that are still to do and the results that are there, for any number of workers.

    `shown` says whether the progress is drawn on stderr; None = if that is a terminal.
    """

    def __init__(self, prompts: Iterable[Prompt], concurrency: int, shown: bool | None) -> None:
        if concurrency < 1:
            raise ValueError("concurrency: at least 1")
        out = sys.stderr if shown or (shown is None and sys.stderr.isatty()) else None
        self.progress = Progress(operator.length_hint(prompts), out, time.monotonic())
        self.workers = range(concurrency)
        self.stopped = False
        self._todo = enumerate(prompts)
        self._results: dict[int, Result] = {}
        self._lock = threading.Lock()

    def take(self) -> tuple[int, Prompt] | None:
        """The next prompt and its place; None when there is none or the batch was stopped."""
        with self._lock:
            return None if self.stopped else next(self._todo, None)

    def put(self, place: int, result: Result) -> None:
        """Note a result."""
        self._results[place] = result
        self.progress.done(result)

    def results(self) -> list[Result]:
        """All results, in the order of the prompts."""
        self.progress.finish()
        return [result for _, result in sorted(self._results.items())]


def refuse_name(options: Mapping[str, object]) -> None:
    """Raises TypeError where all requests of a batch would have the same name."""
    if "request_id" in options:
        raise TypeError("map: no request_id, for each request has its own")


def bare(error: BatonError) -> BatonError:
    """The error without the frames it came through: they keep prompts and streams."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def run(open_stream: Callable[[Prompt], "Stream"], batch: Batch) -> list[Result]:
    """Answer all prompts with threads. Whatever interrupts it cancels what runs."""
    running: set[Stream] = set()

    def work() -> None:
        while (item := batch.take()) is not None:
            batch.put(item[0], answer(item[1]))

    def answer(prompt: Prompt) -> Result:
        try:
            with open_stream(prompt) as stream:
                running.add(stream)
                return read(stream)
        except BatonError as error:
            return bare(error)

    def read(stream: "Stream") -> Completion:
        if batch.stopped:
            stream.cancel()
        try:
            for piece in stream:
                batch.progress.took(piece.tokens)
            return stream.result()
        finally:
            running.discard(stream)

    with ThreadPoolExecutor(len(batch.workers)) as pool:
        try:
            done, _ = wait([pool.submit(work) for _ in batch.workers], None, FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        finally:
            batch.stopped = True
            for stream in list(running):
                stream.cancel()
    return batch.results()


async def run_async(open_stream: Callable[[Prompt], "AsyncStream"], batch: Batch) -> list[Result]:
    """Answer all prompts with tasks. Cancelling it cancels what runs."""

    async def work() -> None:
        while (item := batch.take()) is not None:
            batch.put(item[0], await answer(item[1]))

    async def answer(prompt: Prompt) -> Result:
        try:
            async with open_stream(prompt) as stream:
                async for piece in stream:
                    batch.progress.took(piece.tokens)
                return await stream.result()
        except BatonError as error:
            return bare(error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in batch.workers:
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return batch.results()
