"""The cluster on a screen: a live table on a terminal, one line per change elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from baton.messages import Member
from cluster.controller import ClusterStatus
from cluster.ports import RouterRow

_COLOURS = {
    "starting": "yellow",
    "warming": "yellow",
    "ready": "green",
    "draining": "cyan",
    "gone": "red",
}
_COLUMNS = ("worker", "role", "state", "phase", "pid", "address", "restarts")
_Cells = tuple[str, ...]


class _Console(Console):
    """Of a command that goes on when nobody reads what it prints."""

    def on_broken_pipe(self) -> None:
        """Instead of leaving."""
        self.quiet = True


class Screen:
    """Shows each status it is given. A context, because a terminal has to be put back in order."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = _Console() if console is None else console
        self._live: Live | None = None
        self._lines: dict[str, str] = {}

    def say(self, line: str) -> None:
        """One line for people, above the table."""
        with self._perhaps_unread():
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, status: ClusterStatus) -> None:
        """Replaces the table, or prints what is new in it."""
        if self._live is not None:
            with self._perhaps_unread():
                self._live.update(render(cells(status)), refresh=True)
            return
        for row in cells(status):
            self._print_if_new(row)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            with self._perhaps_unread():
                self._live.stop()
            self._live = None

    @contextmanager
    def _perhaps_unread(self) -> Iterator[None]:
        """The terminal may be gone: no reason for what is shown there to end."""
        try:
            yield
        except OSError:
            self._console.quiet = True

    def _print_if_new(self, row: _Cells) -> None:
        name, _, state, phase, pid, address, restarts = row
        if state == "gone" and not phase and name not in self._lines:
            return  # It has not begun.
        told = phase if phase.startswith(state) else f"{state} {phase}".rstrip()
        words = f"{told} {address}".rstrip()
        line = f"{name}: {words}{f', pid {pid}' if pid else ''}"
        line += f", restarts {restarts}" if restarts != "0" else ""
        # Percentages are for those who watch; a log wants each phase once.
        known = re.sub(r"\s*\d+ ?%", "", line)
        if self._lines.get(name) != known:
            self._lines[name] = known
            self.say(known)


def cells(status: ClusterStatus) -> list[_Cells]:
    """The rows of the table: workers, then routers."""
    return [*map(_worker, status.view.members), *map(_router, status.routers)]


def cells_of_page(page: Mapping[str, Any]) -> list[_Cells]:
    """The rows that a router's status page holds."""
    quarantined = {w["worker_id"]: _quarantined(w) for w in page.get("workers", ())}
    workers = [
        (
            str(member["worker_id"]),
            str(member["role"]),
            str(member["state"]),
            str(member["detail"] or quarantined.get(member["worker_id"], "")),
            str(member["pid"] or ""),
            str(member["address"] or ""),
            str(member["restarts"]),
        )
        for member in page.get("members", ())
    ]
    return [*workers, *(_router_of_page(row) for row in page.get("routers", ()))]


def render(rows: list[_Cells]) -> Table:
    """The table itself."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column != "phase")
    for row in rows:
        # As Text, because brackets in somebody's error message are not markup.
        words = [Text(word) for word in row]
        words[2].style = _COLOURS.get(row[2], "")
        table.add_row(*words)
    return table


def _quarantined(worker: Mapping[str, Any]) -> str:
    transfer = worker.get("transfer") or {}
    counts = {what: transfer.get(f"{what}_blocks", 0) for what in ("quarantined", "fenced")}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"KV blocks: {told}" if told else ""


def _worker(member: Member) -> _Cells:
    pid = str(member.info.pid) if member.info else ""
    address = member.info.address if member.info else ""
    return (
        member.worker_id,
        member.role.value,
        member.state.value,
        member.detail,
        pid,
        address,
        str(member.restarts),
    )


def _router_of_page(row: Mapping[str, Any]) -> _Cells:
    return (
        _router_name(str(row["router_id"]), replaced=bool(row["replaced"])),
        "router",
        str(row["state"]),
        str(row["detail"]),
        str(row["pid"] or ""),
        str(row["address"] or ""),
        str(row["restarts"]),
    )


def _router_name(router_id: str, *, replaced: bool) -> str:
    return f"{router_id} (old)" if replaced else router_id


def _router(row: RouterRow) -> _Cells:
    pid = str(row.pid) if row.pid else ""
    return (
        _router_name(row.router_id, replaced=row.replaced),
        "router",
        row.state.value,
        row.detail,
        pid,
        row.url or "",
        str(row.restarts),
    )
