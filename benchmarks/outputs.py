"""What the simulator's benchmarks take and write: one JSON file, tables, plots."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The options that all of them have."""
    parser.add_argument("--quick", action="store_true", help="a short run: under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write tables in Markdown")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write plots, with matplotlib")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="default: 2")


def check_outputs(chosen: argparse.Namespace) -> None:
    """Minutes of work should not end in a file that cannot be written.

    Raises OSError, and ModuleNotFoundError for plots without matplotlib.
    """
    for path in (chosen.json, chosen.table):
        if path is not None:
            path.touch()
    if chosen.plots is not None:
        chosen.plots.mkdir(parents=True, exist_ok=True)
        if importlib.util.find_spec("matplotlib") is None:
            raise ModuleNotFoundError("plots need matplotlib, which is in the extra 'bench'")
