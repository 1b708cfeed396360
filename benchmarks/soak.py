"""Random faults under the handoff: whatever happens, no wrong answer and no block lost.

usage: python -m benchmarks.soak [--quick] [--requests N] [--seed N] [--json FILE]
Real engines with Baton's connector, every checksum compared, tiny KV pools. Requests are cancelled
or run out of time, messages between the connectors are lost, repeated and late, engines are killed
and stopped in mid-write. Every finished answer is compared with that of one engine alone. The last
line is one JSON object; the exit status is 0 only if nothing happened that must not.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from baton.settings import extend_process_environ
from benchmarks import forked
from benchmarks.engines import run_folder
from benchmarks.outputs import command, tell
from benchmarks.soak_result import FULL, QUICK, Result, Size, is_good, say, seconds


def run(size: Size, seed: int) -> Result:
    """All of it, and what is left of it."""
    # Late: it imports vLLM, which is there only in the process that this is called in.
    from benchmarks.soak_run import soak

    result = Result(seed)
    with run_folder("soak", result.left) as folder:
        asyncio.run(soak(size, result, folder))
    return result


def main(argv: list[str] | None = None) -> int:
    parser = command(__doc__, "150 requests, one transport")
    parser.add_argument("--requests", type=int, metavar="N", help="about so many instead")
    parser.add_argument("--ucx-tls", metavar="NAME", help="this transport of UCX alone")
    parser.add_argument("--seed", type=int, default=1, help="what goes wrong when")
    args = parser.parse_args(argv)
    size = QUICK if args.quick else FULL
    if args.requests is not None:
        size = size.of(args.requests)
    if args.ucx_tls is not None:
        size = replace(size, transports=(args.ucx_tls,))
    # Asked for logprobs, vLLM compiles a function for many seconds.
    extend_process_environ({"TORCHDYNAMO_DISABLE": "1"})
    result = forked.call(run, size, args.seed)
    for story in result.stories:
        say(story)
    line = result.line(seconds())
    tell(line, args.json)
    return 0 if is_good(line) else 1


if __name__ == "__main__":
    raise SystemExit(main())
