"""Clients that leave in the midst of prefill: both ends are free again within 0.5 s.

usage: python -m benchmarks.disconnects [--quick] [--seed N] [--json FILE]
A prefill and a decode worker with real engines, and a router, each a process. Clients ask over HTTP
for answers to long prompts and disconnect at random moments, one after the other. The time counts
until both block pools are empty, no ticket is open, no block is fenced, and neither engine nor
router knows of a request; it is looked up in the engines' own processes. The last line is one JSON
object; the exit status is 0 only if all were free within the time.
"""

from __future__ import annotations

import asyncio

from benchmarks import forked
from benchmarks.disconnects_plan import FULL, QUICK, Result, Size
from benchmarks.engines import run_folder
from benchmarks.faults_result import say, seconds
from benchmarks.outputs import command, tell


def run(size: Size, seed: int) -> Result:
    """All of it, and what is left of it."""
    # Late: they import what is there only in the process that this is called in.
    from benchmarks.disconnects_nodes import running
    from benchmarks.disconnects_run import leave_all

    result = Result(size, seed)
    with (
        run_folder("disconnects", result.left) as folder,
        running(folder, result.left) as nodes,
    ):
        say("all are up")
        asyncio.run(leave_all(nodes, result))
    return result


def main(argv: list[str] | None = None) -> int:
    parser = command(__doc__, "as many as fit into 20 seconds")
    parser.add_argument("--seed", type=int, default=1, help="who leaves when")
    args = parser.parse_args(argv)
    result = forked.call(run, QUICK if args.quick else FULL, args.seed)
    line = result.line(seconds())
    tell(line, args.json)
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
