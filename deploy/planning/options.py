"""What `baton plan` understands on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.option_types import above_zero, count
from simulator.planning.terms import Kind, Promises
from simulator.traces.formats import READERS
from simulator.traces.steady import KINDS

EXAMPLES = """examples:
  baton plan --trace conversation.jsonl --slo ttft=2,tpot=0.04 --profile h200.json
  baton plan --trace azure.csv --slo ttft=1,tpot=0.05,percentile=95 --rate 20 \\
      --profile tp1.json --profile tp2.json,gpus=2 --gpus-max 32 --html plan.html
  baton plan --synthetic chat --rate 10 --slo ttft=2,tpot=0.04 --profile h200.json
"""
GPUS_MAX, SEEDS = 64, 3
_SLO = "Write it like --slo ttft=2,tpot=0.04 or ttft=2,tpot=0.04,percentile=95."
_ENGINE = ("gpus", "kv_tokens", "max_batched_tokens", "max_running", "cores", "network_gbit")


def add(parser: argparse.ArgumentParser) -> None:
    """All options."""
    load = parser.add_argument_group("load")
    what = load.add_mutually_exclusive_group(required=True)
    what.add_argument("--trace", type=Path, metavar="FILE", help="a recorded load")
    live = "compare a prediction with what a running router measured in the last hour"
    what.add_argument("--check", action="store_true", help=live)
    what.add_argument("--synthetic", choices=tuple(KINDS), help="a made-up load; needs --rate")
    load.add_argument("--format", choices=tuple(READERS), help="of the trace (default: guessed)")
    rate = "requests per second to which the trace's gaps are stretched (default: as recorded)"
    load.add_argument("--rate", type=above_zero, metavar="R", help=rate)
    load.add_argument("--requests", type=count, metavar="N", help="only the first N")
    as_recorded = "requests of one step of a coarse clock come at once, not spread over the step"
    load.add_argument("--as-recorded", action="store_true", help=as_recorded)
    _cluster(parser)
    found = parser.add_argument_group("results")
    found.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures; - = print")


def _cluster(parser: argparse.ArgumentParser) -> None:
    cluster = parser.add_argument_group("cluster")
    promised = "seconds, and for which share of requests: ttft=2,tpot=0.04,percentile=90"
    cluster.add_argument("--slo", type=promises, required=True, metavar="NAME=S,…", help=promised)
    profile = "an engine measured by `baton profile`; several are choices, such as of TP"
    cluster.add_argument(
        "--profile",
        action="append",
        type=profile_of,
        required=True,
        metavar="FILE[,gpus=N][,kv_tokens=N]",
        help=profile,
    )
    most = f"the most GPUs to think of (default: {GPUS_MAX})"
    cluster.add_argument("--gpus-max", type=count, metavar="N", help=most)
    kinds = "the kinds to compare (default: all)"
    cluster.add_argument("--kind", action="append", type=Kind, choices=tuple(Kind), help=kinds)
    seeds = f"runs of each cluster, by other dice (default: {SEEDS})"
    cluster.add_argument("--seeds", type=count, metavar="N", help=seeds)
    other = "do not ask again at other loads: no break-even, but much sooner"
    cluster.add_argument("--one-load", action="store_true", help=other)


def promises(text: str) -> Promises:
    """`ttft=2,tpot=0.04[,percentile=90]`."""
    try:
        given = _given(text, ("ttft", "tpot", "percentile"))
        return Promises(given["ttft"], given["tpot"], given.get("percentile", 90.0) / 100)
    except KeyError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error} is missing. {_SLO}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}. {_SLO}") from None


def profile_of(text: str) -> tuple[Path, dict[str, int]]:
    """`FILE[,gpus=N][,kv_tokens=N]`."""
    name, _, rest = text.partition(",")
    try:
        given = _given(rest, _ENGINE) if rest else {}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    wrong = [key for key, value in given.items() if value < 1 or value != int(value)]
    if wrong:
        raise argparse.ArgumentTypeError(f"{text!r}: {wrong[0]} is no whole number above 0")
    return Path(name), {key: int(value) for key, value in given.items()}


def _given(text: str, known: tuple[str, ...]) -> dict[str, float]:
    """Of `NAME=VALUE,…`. Raises ValueError."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in known:
            raise ValueError(f"{part!r} is not NAME=VALUE with {', '.join(known)}")
        found[name.strip()] = float(value)
    return found
