"""`baton top`: the live page in a terminal, from the same JSON."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from baton.errors import BatonError, Reason
from deploy.ask import get_json
from deploy.reach import Reach

_LEVELS = {"good": "green", "watch": "yellow", "bad": "red"}
_BARS = " ▁▂▃▄▅▆▇█"
_METER = 10
_RECENT = 8
_SPARKS = 48
Page = Mapping[str, Any]
Fetch = Callable[[], Page]


def fetch(reach: Reach) -> Page:
    """What the router shows now. Raises BatonError if it does not answer, or shows nothing."""
    status, page = get_json(reach, "/ui/data")
    url = reach.url
    if status == 404:
        raise BatonError(Reason.UNSUPPORTED, f"{url} shows nothing: router.ui is false there")
    if status != 200 or not isinstance(page, dict):
        raise BatonError(Reason.INTERNAL, f"{url} answers {status} to /ui/data")
    return page


def once(ask: Fetch, console: Console) -> None:
    """Prints one frame. Raises BatonError as `fetch` does."""
    console.print(frame(ask()))


def watch(ask: Fetch, console: Console, interval_s: float, leave: Callable[[float], bool]) -> None:
    """Frames until `leave`, which waits for so many seconds, says so.

    Raises BatonError if the first one cannot be had; later ones that fail are told of.
    """
    page, lost = ask(), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(frame(page), refresh=True)
        while not leave(interval_s):
            try:
                page, lost = ask(), ""
            except BatonError as error:
                lost = error.message
            live.update(frame(page, lost), refresh=True)


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], bool]]:
    """Gives what waits for some seconds and tells whether `q` was pressed meanwhile."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False


# --- the frame ------------------------------------------------------------------------------------


def frame(page: Page, lost: str = "") -> RenderableType:
    """One frame. `lost`: why there is no newer one."""
    return Group(
        _head(page, lost),
        *_findings(page),
        _latency(page),
        _workers(page),
        _choices(page),
        *_scaling(page),
        _recent(page),
        Text("q leaves", style="dim"),
    )


def _head(page: Page, lost: str) -> RenderableType:
    requests, router = page["requests"], page["router"]
    line = Text.assemble(
        ("Baton ", "bold"),
        f"{page['model']} · {router['id']} · {requests['inflight']:.0f} in flight, ",
        f"{requests['queued']:.0f} queued · {requests['finished_per_s']:.2f}/s finished, ",
        f"{requests['failed_per_s']:.2f}/s failed, {requests['refused_per_s']:.2f}/s refused",
    )
    if not lost:
        return line
    return Group(line, Text(f"■ disconnected, these figures are old: {lost}", style="red"))


def _findings(page: Page) -> list[Text]:
    signs = {"bad": "■", "watch": "▲"}
    found = [
        Text(f"{signs[one['level']]} {one['text']}", style=_LEVELS[one["level"]])
        for one in page["attention"]
    ]
    return found or [Text("● nothing needs attention", style="green")]


def _latency(page: Page) -> Table:
    slo = page["slo"]
    table = _table("", ">p50", ">p90", ">p99", ">promise", ">kept", "p90, last minutes")
    for name, promise in (("ttft", slo["ttft_s"]), ("tpot", slo["tpot_s"])):
        now, past = page["latency"][name], page["chart"][name]["p90"]
        figures = [seconds(now[p]) for p in ("p50", "p90", "p99")]
        kept = min((r[name] for r in page["attainment"] if r[name] is not None), default=None)
        low = kept is not None and kept < slo["percentile"]
        share = Text(percent(kept), style="red" if low else "")
        table.add_row(name.upper(), *figures, seconds(promise), share, spark(past, promise))
    return table


def _workers(page: Page) -> Table:
    table = _table(
        "worker", "state", ">running", ">waiting", ">queue", "KV in use", ">cached", ">restarts"
    )
    for pool in page["pools"]:
        wanted = "" if pool["wanted"] is None else f", {pool['wanted']} wanted"
        words = f"{pool['ready']} of {pool['workers']} ready{wanted}"
        table.add_row(Text(pool["role"], style="bold"), Text(words, style="dim"))
        for worker in page["workers"]:
            if worker["role"] == pool["role"]:
                table.add_row(*_worker(worker))
    return table


def _worker(worker: Page) -> list[Text]:
    state, level = worker["state"], "watch"
    if state == "ready":
        level = "good" if worker["up"] else "bad"
        state = "draining" if worker["draining"] else state if worker["up"] else "out of reach"
    cached = worker["cached_blocks"]
    return [
        Text(f"  {worker['id']}"),
        Text(f"{state} {worker['detail']}".strip()[:40], style=_LEVELS[level]),
        Text(str(worker["running"])),
        Text(str(worker["waiting"])),
        Text(seconds(worker["queue_s"])),
        meter(worker["kv_used"]),
        Text("-" if cached is None else f"{cached:,}"),
        Text(str(worker["restarts"])),
    ]


def _choices(page: Page) -> Table:
    table = _table("routing", "by reason, since this router began")
    for name in ("division", "prefill", "decode"):
        counts = page["choices"][name]
        words = ", ".join(f"{why.replace('_', ' ')} {n:,.0f}" for why, n in counts.items())
        table.add_row(name, Text(words or "-"))
    return table


def _scaling(page: Page) -> list[RenderableType]:
    row = page["scaling"]
    if row is None:
        return []
    lines = [f"{row['mode']}: prefill {row['prefill']}, decode {row['decode']} wanted", *row["why"]]
    lines += [*row["lately"][-2:]]
    return [Panel(Text("\n".join(lines)), title="scaling", title_align="left", border_style="dim")]


def _recent(page: Page) -> Table:
    table = _table("latest requests", "outcome", ">TTFT", ">took", "workers")
    for row in page["recent"][:_RECENT]:
        workers = " → ".join(filter(None, (row["prefill"], row["decode"])))
        table.add_row(
            Text(row["id"][:40]),
            row["outcome"].replace("_", " "),
            seconds(row["ttft_s"]),
            seconds(row["duration_s"]),
            workers or "-",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if name != column else "left", no_wrap=True)
    return table


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.01 or not value else f"{value * 1000:.1f} ms"


def percent(share: float | None) -> str:
    """A share for people."""
    return "-" if share is None else f"{share * 100:.1f} %"


def meter(share: float) -> Text:
    """A share as a bar."""
    full = min(round(share * _METER), _METER)
    colour = "red" if share > 0.95 else "yellow" if share > 0.85 else "blue"
    return Text.assemble(
        ("█" * full, colour), ("░" * (_METER - full), "dim"), f" {share * 100:.0f} %"
    )


def spark(values: Sequence[float | None], promise: float) -> Text:
    """The last of them as bars; the highest is the promise, or what broke it, in red."""
    last = values[-_SPARKS:]
    most = max([promise, *(v for v in last if v is not None)])
    text = Text()
    for value in last:
        steps = 0 if value is None else max(round(value / most * (len(_BARS) - 1)), 1)
        text.append(_BARS[steps], style="red" if (value or 0) > promise else "blue")
    return text
