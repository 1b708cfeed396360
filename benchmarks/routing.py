"""Baton's prefill routing against rival rules, on a recorded trace.

usage: python -m benchmarks.routing [--quick] [--trace FILE] [--profile FILE] [--json FILE]
                                    [--table FILE] [--plots FOLDER] [--processes N]

R1 (`routing_r1`): attainment of the TTFT promise at 6, 6.5 and 7 requests/s with 8 workers: one
router with a fresh view; four routers that see only their own dispatches and loads of the last
second, which may not ask; and the same four when they may ask. Few keys against power of two. R2
(`routing_r2`): goodput of a whole cluster. Sweeps (`routing_sweeps`) over load, views, workers,
keys and membership. The time of a decision over 64 workers, and the memory of the index. Means over
ring seeds with 95 % intervals; the seeds differ from those that the policy was tuned on. In the
last line, one JSON object; its attainments are those at 6 requests/s, `by_load` has the rest.
`--quick` leaves out R2 and the sweeps, and rivals that are not near the best in a setting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import routing_costs, routing_r1, routing_r2, routing_report, routing_sweeps
from benchmarks.outputs import add_outputs, check_outputs, command, tell
from benchmarks.routing_runs import Runs, seeds, trace_of
from simulator.engine_model.profile import ProfileError
from simulator.traces.request import TraceError

_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
_TRACE = _SHARED / "traces" / "mooncake_conversation_first7200.jsonl"
_PROFILE = _SHARED / "profiles" / "h200_llama31_8b.json"
_MOVED_SEEDS = 3


def main(argv: Sequence[str]) -> int:
    """Prints tables and one line of JSON; 2 and one line when a file cannot be used."""
    chosen = _arguments(argv)
    try:
        trace_of(chosen.trace)
        if not chosen.quick:
            routing_r2.times_of(chosen.profile)
        check_outputs(chosen)
    except (TraceError, ProfileError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    result = _quick(chosen) if chosen.quick else _full(chosen)
    tell(result, chosen.json)
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = command(__doc__, "a short run: under 50 seconds")
    parser.add_argument("--trace", type=Path, default=_TRACE, help="in the Mooncake format")
    parser.add_argument("--profile", type=Path, default=_PROFILE, help="of one engine, for R2")
    add_outputs(parser)
    return parser.parse_args(argv)


def _quick(chosen: argparse.Namespace) -> dict[str, Any]:
    runs = Runs(chosen.processes)
    rows = routing_r1.measured(runs, chosen.trace, routing_r1.QUICK)
    return rows | _moved() | routing_costs.measured()


def _full(chosen: argparse.Namespace) -> dict[str, Any]:
    runs = Runs(chosen.processes)
    costs = routing_costs.measured()
    result = routing_r1.measured(runs, chosen.trace, routing_r1.FULL) | _moved() | costs
    result |= routing_r2.measured(runs, routing_r2.World(chosen.profile, chosen.trace))
    points = routing_sweeps.measured(runs, chosen.trace, routing_sweeps.Plan())
    tables = routing_report.markdown(points, result)
    print(tables)
    if chosen.table is not None:
        chosen.table.write_text(tables, encoding="utf-8")
    if chosen.plots is not None:
        routing_report.plot(points, chosen.plots)
    return result | {"points": routing_report.as_json(points)}


def _moved() -> dict[str, Any]:
    """Homes that one change of membership moves, as a multiple of 1/n."""
    return {"moved_keys_of_n_8": round(routing_sweeps.moved_keys(8, seeds(_MOVED_SEEDS)), 3)}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
