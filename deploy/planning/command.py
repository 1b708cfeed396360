"""`baton plan`: files in, a plan out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from baton.errors import StartupError, StartupFault
from deploy.option_types import told, writable
from deploy.planning import report
from deploy.planning.check import checked
from deploy.planning.options import GPUS_MAX, SEEDS
from deploy.reach import Reach
from simulator.engine_model.fit import FitError
from simulator.engine_model.profile import ProfileError
from simulator.planning.hardware import load_hardware
from simulator.planning.planner import LADDER, PlanError, Question, at, plan
from simulator.planning.setups import Hardware
from simulator.planning.terms import Kind
from simulator.traces.detect import read_any
from simulator.traces.request import Trace, TraceError
from simulator.traces.shape import chained
from simulator.traces.steady import steady

_SYNTHETIC_REQUESTS = 5000


def run(
    args: argparse.Namespace, reach_of: Callable[[argparse.Namespace], Reach]
) -> tuple[int, str]:
    """(exit code: 1 if no cluster keeps the promises, what to print). Raises StartupError, and
    BatonError where a router is to be asked that does not answer."""
    try:
        if args.check:
            return checked(args, reach_of(args))
        writable(args.html, args.json)
        question, errors = asked(args)
        with _progress() as say:
            found = plan(question, say)
    except (TraceError, ProfileError, PlanError) as error:
        raise StartupError(StartupFault.SETTINGS_INVALID, str(error)) from None
    if args.html is not None:
        args.html.write_text(report.html(found, errors), encoding="utf-8")
    code = 0 if found.best else 1
    return code, told(args.json, report.figures(found, errors), report.lines(found, errors))


def asked(args: argparse.Namespace) -> tuple[Question, list[tuple[str, FitError]]]:
    """The question, and the errors of the fits by profile.

    Raises TraceError, ProfileError, PlanError and StartupError.
    """
    hardware: list[Hardware] = []
    errors: list[tuple[str, FitError]] = []
    for path, changes in args.profile:
        engine, fits = load_hardware(path, changes)
        hardware.append(engine)
        errors += [(engine.name, error) for error in fits]
    question = Question(
        _trace(args),
        args.slo,
        tuple(hardware),
        args.gpus_max or GPUS_MAX,
        args.seeds or SEEDS,
        tuple(dict.fromkeys(args.kind or Kind)),
        () if args.one_load else LADDER,
        as_recorded=args.as_recorded,
    )
    return (at(question, args.rate) if args.rate else question), errors


def _trace(args: argparse.Namespace) -> Trace:
    if args.trace is not None:
        return chained(read_any(args.trace, args.format, args.requests))
    if args.rate is None:
        raise StartupError(
            StartupFault.SETTINGS_INVALID, "--synthetic needs a load", hint="Say --rate."
        )
    count = args.requests or _SYNTHETIC_REQUESTS
    return chained(steady(args.synthetic, args.rate, count))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line that changes where somebody watches; a line per replay in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line
        return
    with console.status("replaying") as status:
        yield status.update


def _line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
