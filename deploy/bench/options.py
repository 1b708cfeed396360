"""What `baton bench` understands on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.option_types import above_zero, count, from_zero
from simulator.traces.formats import READERS

EXAMPLES = """examples:
  baton bench                             30 s of 512:128 at one a second, on this user's cluster
  baton bench http://10.0.0.7:8000 --mix 512:128*3,4096:256 --rate 8 --duration 120
  baton bench URL --mix chat --rate 4 --slo ttft=0.5,tpot=0.05 --html bench.html
  baton bench URL --trace conversation.jsonl --rate 6 --duration 300 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The options; those of the way to the endpoint come from `parser`."""
    parser.add_argument("url", nargs="?", help="an endpoint (default: the cluster of this user)")
    _load(parser)
    _asking(parser)
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument("--max-in-flight", type=count, default=1024, metavar="N", help="1024")
    bounds.add_argument(
        "--timeout", type=above_zero, default=600.0, metavar="S", help="for one answer; 600"
    )
    found = parser.add_argument_group("results")
    promise = "promises in seconds, such as ttft=0.5,tpot=0.05,e2e=10 (default: settings slo.*)"
    found.add_argument("--slo", metavar="NAME=S,…", help=promise)
    found.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    found.add_argument("--json", action="store_true", help="print JSON")


def _load(parser: argparse.ArgumentParser) -> None:
    load = parser.add_argument_group("load")
    what = load.add_mutually_exclusive_group()
    sizes = "prompt:answer in tokens, each with *WEIGHT; or chat, agents, mixed (default: 512:128)"
    what.add_argument("--mix", default="512:128", metavar="IN:OUT,…", help=sizes)
    what.add_argument("--trace", type=Path, metavar="FILE", help="a recorded load, with its timing")
    load.add_argument("--format", choices=tuple(READERS), help="of the trace (default: guessed)")
    rate = "requests per second: of a mix (default: 1), or to which a trace's gaps are stretched"
    load.add_argument("--rate", type=above_zero, metavar="R", help=rate)
    load.add_argument("--duration", type=above_zero, metavar="S", help="of a mix: 30; else: all")
    load.add_argument("--requests", type=count, metavar="N", help="only the first N")
    as_recorded = "requests of one step of a coarse clock come at once, not spread over the step"
    load.add_argument("--as-recorded", action="store_true", help=as_recorded)
    left_out = "requests due in the first S seconds are not counted (default: a tenth, at most 10)"
    load.add_argument("--warmup", type=from_zero, metavar="S", help=left_out)
    load.add_argument("--seed", type=int, default=0, help="of lengths and arrivals")
    same = "the same salt makes the same prompts, which caches then know (default: a fresh one)"
    load.add_argument("--salt", metavar="TEXT", help=same)


def _asking(parser: argparse.ArgumentParser) -> None:
    asking = parser.add_argument_group("requests")
    # `model` itself is a shortcut for a setting.
    default = "default: the endpoint's first"
    asking.add_argument("--model", dest="served_model", metavar="NAME", help=default)
    asking.add_argument("--chat", action="store_true", help="chat completions; implies --words")
    asking.add_argument("--words", action="store_true", help="prompts of words, not of token ids")
    eos = "answers may end early: for endpoints that do not know ignore_eos"
    asking.add_argument("--no-ignore-eos", action="store_true", help=eos)
