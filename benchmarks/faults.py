"""A matrix of faults under load: every request is answered, whatever is killed, stopped or cut.

usage: python -m benchmarks.faults [--quick] [--json FILE]
Real engines, NIXL and gRPC, the router's heart, and for routers and the controller `baton serve`.
Each stream is compared token by token with the answer that nothing interrupted. A request is lost
if it ends neither with its whole answer nor with a typed error, and, since all of these can be
resumed, also if it ends with a typed error while another worker serves. The last line is one JSON
object; the exit status is 0 only if nothing happened that must not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from baton.settings import extend_process_environ
from benchmarks import forked
from benchmarks.engines import run_folder
from benchmarks.faults_cells import QUICK, SERVED, Cell, Part, feasible
from benchmarks.faults_result import Result, is_good, seconds
from benchmarks.faults_served import served_cells
from benchmarks.outputs import command, tell


def run(quick: bool, cells: Sequence[Cell]) -> Result:
    """The cells that hit workers and transport."""
    # Late: it imports vLLM, which is there only in the process that this is called in.
    from benchmarks.faults_run import worker_cells

    result = Result(quick)
    with run_folder("faults", result.left) as folder:
        asyncio.run(worker_cells(cells, result, folder))
    return result


def main(argv: list[str] | None = None) -> int:
    parser = command(__doc__, "a spread of cells, under a minute")
    parser.add_argument(
        "--parts", nargs="+", type=Part, default=list(Part), help="hit these only: %(default)s"
    )
    args = parser.parse_args(argv)
    parts = frozenset(args.parts)
    # Asked for logprobs, vLLM compiles a function for many seconds.
    extend_process_environ({"TORCHDYNAMO_DISABLE": "1"})
    result = Result(args.quick)
    cells = QUICK if args.quick else feasible(parts - SERVED)
    if cells:
        result = forked.call(run, args.quick, cells)
    if not args.quick:
        served_cells(feasible(parts & SERVED), result)
    line = result.line(seconds())
    tell(line, args.json)
    return 0 if is_good(line) else 1


if __name__ == "__main__":
    raise SystemExit(main())
