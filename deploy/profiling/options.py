"""What `baton profile` understands on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.profiling.points import LONGEST_TOKENS, QUICK_LONGEST_TOKENS, SHORTEST_TOKENS

EXAMPLES = """examples:
  baton profile --quick                         the demo model into profile.json, in a minute or two
  baton profile h100.json --model ./my-model --set engine.max_batched_tokens=16384
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The options, besides settings."""
    where = "the profile; one that was interrupted is gone on with (default: profile.json)"
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path("profile.json"), metavar="FILE", help=where
    )
    parser.add_argument("--model", metavar="PATH", help="model folder (model.path)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="engine.device")
    parser.add_argument("--quick", action="store_true", help="fewer points, fewer repetitions")
    defaults = f"{LONGEST_TOKENS}, with --quick {QUICK_LONGEST_TOKENS}"
    longest = f"most tokens of a request (default: {defaults}, or the model's context)"
    parser.add_argument("--longest", type=_longest, metavar="TOKENS", help=longest)
    no = "leave out what moves KV between two processes"
    parser.add_argument("--no-transfer", action="store_true", help=no)
    parser.add_argument("--again", action="store_true", help="measure anew what FILE has already")


def _longest(text: str) -> int:
    if not text.isdecimal() or int(text) < SHORTEST_TOKENS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least {SHORTEST_TOKENS}")
    return int(text)
