"""Baton's prefill routing against rival rules, in the reference setting R1 on a recorded trace.

usage: python -m benchmarks.routing [--quick] [--trace FILE] [--json FILE]

Attainment of the TTFT promise at 6, 6.5 and 7 requests/s with 8 workers: one router with a fresh
view; four routers that see only their own dispatches and loads of the last second, which may not
ask; and the same four when they may ask. Then few keys against power of two choices, the time of a
decision over 64 workers, and the memory of the index. Means over ring seeds with 95 % intervals;
the seeds differ from those that the policy was tuned on. In the last line, one JSON object,
attainments are those at 6 requests/s and `by_load` has the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import routing_costs, routing_runs
from simulator import mooncake

_DEFAULT_TRACE = (
    Path(__file__).resolve().parent.parent.parent
    / "shared"
    / "traces"
    / "mooncake_conversation_first7200.jsonl"
)
_CUT_TOKENS = 20_480


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run: under 50 seconds")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="in the Mooncake format")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    args = parser.parse_args(argv)
    trace = args.trace or _DEFAULT_TRACE
    try:
        arrivals = mooncake.read(trace, cut_tokens=_CUT_TOKENS)
    except (OSError, mooncake.TraceError) as error:
        parser.error(f"no trace at {trace}: {error}")
    plan = routing_runs.QUICK if args.quick else routing_runs.FULL
    result = routing_runs.measured(arrivals, plan) | routing_costs.measured()
    line = json.dumps(result)
    if args.json is not None:
        args.json.write_text(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
