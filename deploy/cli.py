"""The command line: `baton serve | status | ask | down | config | transport | version`.

Exit codes: 0 it went well, 1 it failed, 2 the command line or the settings are wrong. Errors are
one line and one hint on standard error; `--debug` adds the traceback.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from baton.errors import BatonError, Reason, StartupError, StartupFault
from deploy import commands, parser
from deploy.kubernetes import commands as kubernetes

_HINTS = {
    Reason.NO_WORKER: "Start a cluster with `baton serve`, or name one with --url.",
    Reason.STARTING: "Wait until `baton status` says ready.",
    Reason.UNAUTHENTICATED: "Give a key with --api-key, or in BATON_API_KEY.",
    Reason.PERMISSION_DENIED: "`baton keys add TENANT --operator` makes a key for it.",
    Reason.QUEUE_FULL: "Try again in a moment.",
    Reason.WORKER_FULL: "Try again in a moment.",
}
_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": commands.serve,
    "status": commands.status,
    "top": commands.top,
    "ask": commands.ask,
    "explain": commands.explain,
    "story": commands.story,
    "drain": commands.drain,
    "scale": commands.scale,
    "down": commands.down,
    "keys add": commands.keys,
    "keys list": commands.keys,
    "keys revoke": commands.keys,
    "config show": commands.config_show,
    "config check": commands.config_check,
    "transport test": commands.transport_test,
    "bench": commands.bench,
    "profile": commands.profile,
    "plan": commands.plan,
    "dashboards": commands.dashboards,
    "deploy render": kubernetes.render,
    "deploy schema": kubernetes.schema,
    "version": commands.version,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    try:
        args = parser.build().parse_args(argv)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
    try:
        return _COMMANDS[args.command](args)
    except KeyboardInterrupt:
        print("baton: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        return _explain(error)


def _explain(error: Exception) -> int:
    match error:
        case StartupError():
            _print(f"{error.message} [{error.fault.value}]", error.details, error.hint)
            return 2 if error.fault is StartupFault.SETTINGS_INVALID else 1
        case BatonError():
            _print(error.message, (), _HINTS.get(error.reason, ""))
        case _:
            what = f"{type(error).__name__}: {error}"
            _print(what, (), "This is a fault of Baton; --debug shows where.")
    return 1


def _print(message: str, details: Sequence[str], hint: str) -> None:
    print(f"baton: error: {message}", file=sys.stderr)
    for detail in details:
        print(f"  - {detail}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
