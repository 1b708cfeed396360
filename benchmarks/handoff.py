"""The handoff by vLLM's pulling and pushing connectors and by Baton's, in turns on two engines.

usage: python -m benchmarks.handoff [--quick | --gpu] [--json FILE]

All three are loaded into the same engines; each request says which one carries its KV. Exposed
time is from the end of prefill, as the client hears of it, to decode's first token: transfer,
scheduling and one decode step. The model has random weights and 64 KiB of KV per token; figures
that stand alone are of 1,024 tokens. vLLM's connectors run without NIXL's progress thread, as Baton
configures them on CPU, so that its absence is not counted as a gain. vLLM's push gets both legs at
once, which is its best case. The speed of a shaped link is set by the time that prefill takes (see
`link` and `shaped`); where that cannot be done, those figures are null.

The full run has parts with engines and a time of their own, 14 minutes together: prompts of 128 to
8,000 tokens and several clients at once; the link at four speeds; the demo model, whose KV is so
small that the figures measure polling; each of vLLM's connectors with its progress thread. A part
whose time is over, or whose engines fail, is cut short with a reason (`parts`), and every figure
says how many requests it is the median of (`requests`).

With --gpu it is Baton's connector alone, on one GPU (see `handoff_gpu`). The last line is one JSON
object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import forked, link
from benchmarks.outputs import command, tell

_MODULE = "benchmarks.handoff"


def main(argv: Sequence[str]) -> int:
    parser = command(__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="a short run: about 40 seconds")
    kind.add_argument("--gpu", action="store_true", help="two engines on one GPU, 8B shape")
    args = parser.parse_args(argv)
    tell(_on_gpu() if args.gpu else _on_cpu(argv, quick=args.quick), args.json)
    return 0


def _on_gpu() -> dict[str, Any]:
    from benchmarks import handoff_gpu

    return handoff_gpu.run()


def _on_cpu(argv: Sequence[str], *, quick: bool) -> dict[str, Any]:
    _on_own_link(argv)
    return forked.call(_run, quick)


def _run(quick: bool) -> dict[str, Any]:
    # Late: it imports vLLM, which is there only in the process that this is called in.
    from benchmarks import handoff_runs

    return handoff_runs.quick() if quick else handoff_runs.full()


def _on_own_link(argv: Sequence[str]) -> None:
    if link.inside():
        link.set_up()
    elif (reason := link.why_not()) is None:
        link.enter(_MODULE, argv)
    else:
        print(f"no link can be shaped here: {reason}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
