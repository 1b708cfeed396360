"""Whether the parts of the time to a first token add up to what the client sees.

usage: python -m benchmarks.ttft_split [--quick] [--json FILE]
A real cluster on this machine, one prefill and one decode worker with the demo model, and clients
that stream over HTTP at the same time. Each client measures its TTFT by its own clock, from sending
the request until the first event's bytes are here, and asks for the router's split. The gap is the
difference between that and the sum of the parts. While the host of a virtual machine takes its
cores away, neither router nor client can look at a clock: requests whose gap meets such a moment
(benchmarks.stolen) are counted and judged apart. The last line is one JSON object; the exit status
is 0 only if 99 of 100 undisturbed requests are within 2 ms or 2 %, and nothing is left of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing.resource_tracker
import os
import re
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvloop

from baton.percentile import percentile
from baton.settings import Settings, extend_process_environ
from benchmarks import leftovers, nodes, stolen
from benchmarks.faults_result import say, seconds
from benchmarks.outputs import command, tell
from benchmarks.stolen import Stolen
from benchmarks.ttft_split_client import Client, Seen
from router.split import Part

CLIENTS = 6
QUICK_S, FULL_S = 12.0, 60.0
GAP_S, GAP_SHARE = 0.002, 0.02
ENOUGH = 0.99
_EXPOSED = re.compile(
    r"^baton_kv_transfer_exposed_seconds_(sum|count)\{[^}]*\} (\S+)$", re.MULTILINE
)
_LINES = (2, 20, 45)
"""Lengths of the prompts: one that few steps compute, and longer ones."""


def settings() -> Settings:
    """The defaults, but everything goes through both workers and nobody is sent away."""
    router = {"port": 0, "disaggregate": "always"}
    return Settings.model_validate({"router": router, "admission": {"shed_at": 0.0}})


def prompt(number: int) -> str:
    """One that nobody has asked before, so that it is computed."""
    lines = "\n    value = read_line(path)" * _LINES[number % len(_LINES)]
    return f"# {number}\ndef load_{number}(path):{lines}"


async def measure(url: str, for_s: float) -> list[Seen]:
    """All clients at once, each asking again when it has been answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    clients = [Client(host, int(port)) for _ in range(CLIENTS)]
    numbers = iter(range(1_000_000))
    for client in clients:
        await client.connect()
    try:
        await asyncio.gather(*(_ask(client, numbers, until=0) for client in clients))
        say("warm")
        # A collection in the client would be measured as the router's.
        gc.disable()
        until = time.monotonic() + for_s
        found = await asyncio.gather(*(_ask(client, numbers, until) for client in clients))
    finally:
        for client in clients:
            client.close()
    return [seen for each in found for seen in each]


async def _ask(client: Client, numbers: Iterable[int], until: float) -> list[Seen]:
    found = []
    for number in numbers:
        found.append(await client.ask(prompt(number)))
        if time.monotonic() >= until:
            break
    return found


def figures(found: Sequence[Seen], stolen: Stolen) -> dict[str, Any]:
    """What was found, in milliseconds and percent."""
    calm = [seen for seen in found if not _disturbed(seen, stolen)]
    apart = [seen for seen in found if seen.parts[Part.FIRST_DECODE_STEP.value] > 0]
    means = {p.value: _ms(statistics.fmean(s.parts[p.value] for s in found)) for p in Part}
    return {
        **_gaps(found),
        "undisturbed": _gaps(calm),
        "cores_watched": stolen.watching,
        "stolen_s": round(stolen.total_s, 3),
        "disaggregated": len(apart),
        "ttft_p50_ms": _ms(percentile([seen.ttft_s for seen in found], 0.5)),
        "parts_mean_ms": means,
    }


def _gaps(found: Sequence[Seen]) -> dict[str, Any]:
    gaps = [abs(seen.gap_s) for seen in found]
    shares = [abs(seen.gap_s) / seen.ttft_s for seen in found]
    within = [g <= GAP_S or s <= GAP_SHARE for g, s in zip(gaps, shares, strict=True)]
    return {
        "requests": len(found),
        "max_gap_ms": _ms(max(gaps, default=0.0)),
        "p99_gap_pct": round(100 * (percentile(shares, 0.99) or 0.0), 3),
        "p99_gap_ms": _ms(percentile(gaps, 0.99)),
        "p50_gap_ms": _ms(percentile([seen.gap_s for seen in found], 0.5)),
        "within": round(sum(within) / max(1, len(within)), 4),
    }


def _disturbed(seen: Seen, stolen: Stolen) -> bool:
    return any(stolen.touches(*span) for span in seen.unexplained)


def _ms(value_s: float | None) -> float:
    return round(1e3 * (value_s or 0.0), 3)


def rank(first: Iterable[int], last: Iterable[int]) -> None:
    """Lets some processes run before all others, where that is allowed, and some after.

    The machine is shared: otherwise the kernel's queue for a core, some milliseconds behind a step
    of an engine, would be measured with every byte that wakes the router or a client.
    """
    for pid in last:
        _schedule(pid, os.SCHED_IDLE, 0)
    with contextlib.suppress(PermissionError):
        for pid in first:
            _schedule(pid, os.SCHED_RR, 1)


def _schedule(pid: int, policy: int, priority: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))


def run(for_s: float) -> dict[str, Any]:
    """Everything from start to end."""
    with nodes.running(settings(), prefill=1, decode=1) as started:
        start_s = seconds()
        say("router and workers are up")
        engines = [pid for w in started.workers for pid in (w.pid, w.engine_pid)]
        rank(first=[started.router_pid, os.getpid()], last=engines)
        with (
            stolen.watched() as taken,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            found = runner.run(measure(started.url, for_s))
        exposed_ms = _connector_exposed_ms(started.url)
    return {
        **figures(found, taken),
        "connector_exposed_ms": exposed_ms,
        "start_s": round(start_s, 1),
    }


def _connector_exposed_ms(url: str) -> float:
    """What the prefill worker's connector says of exposed transfers, the mean: a second opinion."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    # Every worker has a row; those of decode workers are zero.
    total = {"sum": 0.0, "count": 0.0}
    for kind, value in _EXPOSED.findall(text):
        total[kind] += float(value)
    return _ms(total["sum"] / max(total["count"], 1))


def main(argv: Sequence[str] | None = None) -> int:
    args = command(__doc__, "a short run: under 50 seconds").parse_args(argv)
    # Python's helper process ends with this one; it is not to carry the mark.
    multiprocessing.resource_tracker.ensure_running()
    mark = leftovers.mark()
    extend_process_environ(mark.environment)
    result = run(QUICK_S if args.quick else FULL_S)
    result |= {"left": mark.left(), "quick": args.quick, "seconds": round(seconds(), 1)}
    tell(result, args.json)
    return 0 if result["undisturbed"]["within"] >= ENOUGH and not result["left"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
