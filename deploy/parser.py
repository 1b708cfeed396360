"""What the command line understands, and how it helps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deploy.bench import options as bench_options
from deploy.kubernetes.profiles import PROFILES
from deploy.option_types import count
from deploy.planning import options as plan_options
from deploy.profiling import options as profile_options

_SERVE = """examples:
  baton serve                                  the demo model, one prefill and one decode worker
  baton serve --model ./my-model --decode 2    a model folder in the Hugging Face layout
  baton serve --config baton.yaml --port 9000 --set engine.kv_cache_gib=4
"""
_ASK = """examples:
  baton ask "def fibonacci(n):" --max-tokens 64
  baton ask --chat "Who are you?" --temperature 0
  baton ask "Hello" --url http://127.0.0.1:9000 --json
"""
_TOP = """examples:
  baton top                               until q or Ctrl-C
  baton top --once                        one frame, for a log or over ssh
  baton top --url http://10.0.0.7:8000 --interval 5
"""
_EXPLAIN = """examples:
  baton explain cmpl-4f1c0a2b             the id in an answer, or a part of it
  baton explain 4f1c0a2b --json
"""
_STORY = """examples:
  baton story cmpl-4f1c0a2b               the id in an answer, or a part of it
"""
_DRAIN = """examples:
  baton drain decode-0                    it finishes what it has and is started anew
  baton drain --all                       every worker and router in turn: a rolling restart
"""
_SCALE = """examples:
  baton scale decode=3                    as many decode workers from now on, whatever comes
  baton scale prefill=2 decode=5
  baton scale --auto                      the scaling law decides, within the bounds of `scaling`
  baton scale                             what is wanted now, and why
"""
_CONFIG = """examples:
  baton config show                 what differs from the defaults
  baton config show --all           every setting with its meaning: a file to start from
  baton config check --config baton.yaml
"""

_KEYS = """examples:
  baton keys add team-a --config baton.yaml    prints the key, once
  baton keys list --json
  baton keys revoke 4f1c0a2b9d3e               running routers refuse it from the next second on
"""
_TRANSPORT = """examples:
  baton transport test                         blocks of the configured model, in two processes here
  baton transport test --set kv_transfer.ucx_tls=tcp
  baton transport test --size 2097152 --json
"""
_DASHBOARDS = """examples:
  baton dashboards ./monitoring                dashboards, rules and a configuration to start from
  baton dashboards ./monitoring --url http://router.example:8000
"""
_DEPLOY = """examples:
  baton deploy render --profile laptop | kubectl apply -n baton -f -
  baton deploy render --profile multi-node -f my-values.yaml --out base && kubectl apply -k base
  baton deploy schema > values.schema.json      for editors that check YAML
"""

_INTERVAL_S = (0.2, 3600.0)
# Options of `serve` that are short for a setting.
SHORTCUTS = {
    "model": "model.path",
    "prefill": "prefill.workers",
    "decode": "decode.workers",
    "routers": "router.routers",
    "host": "router.host",
    "port": "router.port",
    "device": "engine.device",
    "log_format": "log.format",
}


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` names the command."""
    parser = argparse.ArgumentParser(
        prog="baton",
        description="Serve a language model from a pool of prefill and a pool of decode workers.",
        epilog="`baton COMMAND --help` explains a command. Exit codes: 0 well, 1 failed, 2 usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _serve(_add(commands, "serve", "start a cluster here and keep it until Ctrl-C", _SERVE))
    _status(_add(commands, "status", "show what runs"))
    _top(_add(commands, "top", "watch the cluster live: the page at /ui in a terminal", _TOP))
    _ask(_add(commands, "ask", "send one prompt to a running cluster", _ASK))
    _explain(_add(commands, "explain", "say why a request went where it went", _EXPLAIN))
    _story(_add(commands, "story", "tell the life of a request, step by step", _STORY))
    _drain(_add(commands, "drain", "let workers and routers finish, and start them anew", _DRAIN))
    _scale(_add(commands, "scale", "say how many workers each pool has, or let Baton", _SCALE))
    _add_settings(_add(commands, "down", "stop a running cluster and wait for its end"))
    _config(commands)
    _keys(commands)
    _transport(commands)
    _bench(
        _add(commands, "bench", "send a load to an endpoint and time it", bench_options.EXAMPLES)
    )
    _profile(_add(commands, "profile", "measure an engine here", profile_options.EXAMPLES))
    plan = _add(commands, "plan", "say what to buy for a load", plan_options.EXAMPLES)
    plan_options.add(plan)
    _add_settings(plan)
    _add_url(plan)
    _dashboards(_add(commands, "dashboards", "write what Grafana and Prometheus read", _DASHBOARDS))
    _deploy(commands)
    _add(commands, "version", "print the versions of Baton and of what it stands on")
    return parser


def _add(commands: Any, name: str, summary: str, epilog: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name.rsplit(maxsplit=1)[-1],
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=name)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (YAML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, such as engine.kv_cache_gib=4; may be repeated",
    )


def _serve(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    parser.add_argument("--model", metavar="PATH", help="model folder (model.path)")
    parser.add_argument("--prefill", type=int, metavar="N", help="prefill workers")
    parser.add_argument("--decode", type=int, metavar="N", help="decode workers")
    parser.add_argument("--routers", type=int, metavar="N", help="router processes")
    parser.add_argument("--host", help="address that clients reach (default: loopback only)")
    parser.add_argument("--port", type=int, help="HTTP port; 0 = any free one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where engines compute")
    parser.add_argument("--log-format", choices=("text", "json"), help="how events are logged")


def _status(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _top(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    parser.add_argument("--once", action="store_true", help="print one frame and leave")
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="default: 1"
    )


def _ask(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    parser.add_argument("prompt", help="the text to go on from, or the message with --chat")
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N", help="default: 128")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 = greedy")
    parser.add_argument("--chat", action="store_true", help="ask as a chat message")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _drain(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    whom = parser.add_mutually_exclusive_group(required=True)
    example = "such as decode-0 or router-0"
    whom.add_argument("name", nargs="*", default=[], metavar="NAME", help=example)
    whom.add_argument("--all", action="store_true", help="all of them, one after the other")


def _scale(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("counts", nargs="*", default=[], metavar="POOL=N", help="prefill=N, decode=N")
    how.add_argument("--auto", action="store_true", help="let the scaling law decide")


def _story(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    _add_url(parser)
    parser.add_argument("request_id", metavar="REQUEST_ID", help="as in the answer, or a part")


def _explain(parser: argparse.ArgumentParser) -> None:
    _story(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _dashboards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the files go")
    example = "http://127.0.0.1:8000"
    parser.add_argument("--url", default=example, help=f"a router's address (default: {example})")


def _deploy(commands: Any) -> None:
    deploy = commands.add_parser("deploy", help="make manifests for Kubernetes")
    actions = deploy.add_subparsers(required=True, metavar="ACTION")
    render = _add(actions, "deploy render", "write a kustomize base, or print it as one", _DEPLOY)
    render.add_argument("--profile", choices=sorted(PROFILES), required=True, help="begin with it")
    render.add_argument("-f", "--file", type=Path, help="values (YAML) that change the profile's")
    render.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value, such as settings.decode.workers=4; may be repeated",
    )
    render.add_argument("--out", type=Path, metavar="DIR", help="folder (default: print)")
    _add(actions, "deploy schema", "print the JSON schema of the values", _DEPLOY)


def _bench(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    bench_options.add(parser)
    _add_access(parser)


def _profile(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    profile_options.add(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="a router's address (default: the cluster of this user)")
    _add_access(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    variable = "better in the environment, where nobody else sees it: BATON_API_KEY"
    parser.add_argument("--api-key", metavar="KEY", help=variable)
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="authorities to trust (or BATON_CA_PATH)"
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="your certificate, for mTLS")
    parser.add_argument("--cert-key", type=Path, metavar="FILE", help="its key")


def _config(commands: Any) -> None:
    config = commands.add_parser("config", help="show or check the settings")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    show = _add(actions, "config show", "print the settings in effect as YAML", _CONFIG)
    show.add_argument("--all", action="store_true", help="defaults as well")
    check = _add(actions, "config check", "say what is wrong with the settings", _CONFIG)
    for parser in (show, check):
        _add_settings(parser)


def _keys(commands: Any) -> None:
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    add = _add(actions, "keys add", "make a key of a tenant and print it, once", _KEYS)
    add.add_argument("tenant", metavar="TENANT", help="whose requests it sends")
    pages = "it also opens /metrics, /status, /ui, and may act for any tenant"
    add.add_argument("--operator", action="store_true", help=pages)
    revoke = _add(actions, "keys revoke", "take a key back", _KEYS)
    revoke.add_argument("id", metavar="ID", help="as in `baton keys list`")
    for parser in (
        add,
        _add(actions, "keys list", "show all keys, without secrets", _KEYS),
        revoke,
    ):
        _add_settings(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")


def _transport(commands: Any) -> None:
    transport = commands.add_parser("transport", help="test what carries the KV cache")
    actions = transport.add_subparsers(required=True, metavar="ACTION")
    summary = "measure what carries KV between two processes on this machine, and how fast"
    test = _add(actions, "transport test", summary, _TRANSPORT)
    _add_settings(test)
    test.add_argument("--model", metavar="PATH", help="model folder (model.path)")
    test.add_argument(
        "--size", type=count, metavar="BYTES", help="size of a block (default: as the model's)"
    )
    test.add_argument(
        "--blocks", type=count, metavar="N", help="most blocks in one transfer (default: 32 MiB)"
    )
    test.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="where the KV is (engine.device)"
    )
    test.add_argument("--json", action="store_true", help="print JSON")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _INTERVAL_S[0] <= seconds <= _INTERVAL_S[1]:
        low, high = _INTERVAL_S
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
    return seconds
