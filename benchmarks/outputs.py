"""What benchmarks take and tell: a short run, the last line, which is JSON, tables, plots."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def command(doc: str | None, quick: str | None = None) -> argparse.ArgumentParser:
    """The command line of a benchmark with this docstring; `quick`: what its short run is."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    return parser


def tell(result: Mapping[str, Any], file: Path | None = None) -> None:
    """Prints the last line, and writes it to a file as well."""
    line = json.dumps(result)
    print(line)
    if file is not None:
        file.write_text(line + "\n")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """What the simulator's benchmarks take besides."""
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
