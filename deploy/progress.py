"""How far a long command is: a bar where somebody watches, a line now and then in a log."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 10.0


class Watched:
    """One command's progress on standard error; standard output is for what it found."""

    def __init__(self, title: str, bar: Progress | None, out: TextIO) -> None:
        self._title = title
        self._bar = bar
        self._out = out
        self._task = None if bar is None else bar.add_task(title, total=1.0, note="")
        self._line_at = 0.0

    def at(self, share: float, note: str) -> None:
        """How far it is, 0 to 1, and what else there is to say. Cheap: may be called often."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(share, 1.0), note=note)
        elif (now := time.monotonic()) >= self._line_at:
            self._line_at = now + _LINE_EVERY_S
            self.say(f"{self._title}: {min(share, 1.0):.0%}, {note}")

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            self._out.write(line + "\n")
            self._out.flush()


@contextmanager
def watched(title: str) -> Iterator[Watched]:
    """Shows progress until the end of the block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watched(title, None, sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4, transient=True) as bar:
        yield Watched(title, bar, sys.stderr)


def on_interrupt(stop: Callable[[], None]) -> None:
    """Ctrl-C ends the work and not the command, which tells what has come so far."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)
