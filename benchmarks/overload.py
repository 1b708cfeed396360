"""Far more requests than can be served: what is let in is served as promised, the rest refused.

usage: python -m benchmarks.overload [--quick] [--capacity N] [--json FILE]
The router is the real one in its own process, with the real HTTP front. Behind it are two prefill
and two decode workers, Baton's own but for their engines, which take the time of computing without
computing. Three tenants of equal weight ask for 1, 2, 5 and 20 times what the prefill workers can
compute: two of them ever more, one (`steady`) always well below its share. A request is served as
promised if its first token comes within `slo.ttft_of` its prompt and the others within
`slo.tpot_s`; what was let in and did not end counts as not. Latencies are the client's, from the
sending of a request to its complete answer; `refusal_ms_p99_undisturbed` is of those during which
the host of a virtual machine took no core away (benchmarks.stolen). The memory of the router at 20
times is compared between the second minute and the last one (`--quick`: the second and the last
tenth). The last line is one JSON object; the exit status is 0 only if nothing is in its `missed`.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing.resource_tracker
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from baton.settings import Settings, extend_process_environ
from benchmarks import leftovers, overload_nodes, overload_result, stolen
from benchmarks.faults_result import say, seconds
from benchmarks.outputs import command, tell
from benchmarks.overload_load import Load
from benchmarks.overload_plan import Phase, Times, capacity_per_s, rates, times_for

SEED = 1
CAPACITY = 20.0
"""Requests a second that the prefill workers together compute."""


@dataclass(frozen=True, slots=True)
class Size:
    """How long everything takes, in seconds."""

    phases: tuple[Phase, ...]
    between_s: float
    """Most that is waited for answers after a phase before the next one."""
    end_s: float
    """Most that is waited for answers after the last one."""
    window_s: float
    """Memory is averaged over so long."""


# A short run does not wait between phases: it is one load that grows.
QUICK = Size((Phase(1, 2), Phase(2, 2), Phase(5, 3), Phase(20, 8)), 0, 3, 0.8)
FULL = Size((Phase(1, 60), Phase(2, 60), Phase(5, 60), Phase(20, 480)), 15, 30, 60)


def settings() -> Settings:
    """Those of the cluster: the defaults, but for a known capacity and equal tenants."""
    chosen: dict[str, Any] = {"router": {"port": 0, "disaggregate": "always"}}
    if "admission" in Settings.model_fields:
        chosen["admission"] = {
            "shed_at": 1.0,
            "tenants": {name: {"weight": 1.0} for name in rates(1, 1)},
        }
    return Settings.model_validate(chosen)


async def measure(nodes: overload_nodes.Nodes, size: Size, times: Times) -> list[Any]:
    """All phases, one after the other."""
    load, found = Load(nodes, SEED), []
    try:
        await load.warm_up()
        # A collection in the client would be measured as the router's.
        gc.disable()
        for phase in size.phases:
            say(f"{phase.multiple} times the capacity for {phase.seconds:g} s")
            found.append(await load.run(phase, capacity_per_s(times)))
            await _settle(load, size, last=phase is size.phases[-1])
    finally:
        await load.aclose()
    return found


async def _settle(load: Load, size: Size, *, last: bool) -> None:
    await load.settled(size.end_s if last else size.between_s)
    if last or size.between_s:
        load.cut()


def run(size: Size, times: Times) -> dict[str, Any]:
    """Everything from start to end."""
    chosen = settings()
    with overload_nodes.running(chosen, times) as nodes:
        start_s = seconds()
        say("router and workers are up")
        with (
            stolen.watched() as taken,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            seen = runner.run(measure(nodes, size, times))
    return {
        **overload_result.line(seen, chosen.slo, size.window_s, taken),
        "capacity_per_s": round(capacity_per_s(times), 3),
        "admission": "admission" in Settings.model_fields,
        "start_s": round(start_s, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = command(__doc__, "a short run: under 50 seconds")
    told = "requests/s that prefill can compute, by default %(default)g"
    parser.add_argument("--capacity", type=float, default=CAPACITY, metavar="N", help=told)
    args = parser.parse_args(argv)
    # Python's helper process ends with this one; it is not to carry the mark.
    multiprocessing.resource_tracker.ensure_running()
    mark = leftovers.mark()
    extend_process_environ(mark.environment)
    result = run(QUICK if args.quick else FULL, times_for(args.capacity))
    result |= {"left": mark.left(), "quick": args.quick}
    result |= {"missed": overload_result.missed(result), "seconds": round(seconds(), 1)}
    tell(result, args.json)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
