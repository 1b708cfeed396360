"""What the arguments of a command name: settings, a cluster of this user, a way to a router."""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.settings import Settings, load, process_environ
from deploy.parser import SHORTCUTS
from deploy.reach import Reach
from deploy.rundir import RunState, run_dir


def settings(args: argparse.Namespace) -> Settings:
    """Of --config, the environment, the options and --set. Raises StartupError."""
    return load(args.config, process_environ(), overrides(args)).settings


def overrides(args: argparse.Namespace) -> dict[str, object]:
    """What the command line itself sets. Raises StartupError."""
    given = {
        key: value
        for option, key in SHORTCUTS.items()
        if (value := getattr(args, option, None)) is not None
    }
    return {**given, **dict(_pair(text) for text in args.set)}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"--set {text}: not KEY=VALUE",
            hint="Write it like --set engine.kv_cache_gib=4.",
        )
    return key.strip(), value


def reach(args: argparse.Namespace) -> Reach:
    """The router of --url, or of the cluster of this user. Raises BatonError where none runs."""
    environ = process_environ()
    key = args.api_key or environ.get("BATON_API_KEY") or environ.get("VLLM_API_KEY")
    ca = args.ca or environ.get("BATON_CA_PATH")
    ca_path = None if ca is None else Path(ca)
    return Reach(_url(args), key, ca_path, args.cert, args.cert_key, own=args.url is None)


def _url(args: argparse.Namespace) -> str:
    if args.url is not None:
        return _checked(args.url)
    state = running(args)
    if state.url is None:
        raise BatonError(Reason.STARTING, f"the cluster {state.cluster!r} is still {state.phase}")
    return state.url


def _checked(url: str) -> str:
    try:
        scheme = httpx.URL(url).scheme
    except httpx.InvalidURL as error:
        raise StartupError(StartupFault.SETTINGS_INVALID, f"--url {url}: {error}") from None
    if scheme not in ("http", "https"):
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"--url {url}: not an address of HTTP",
            hint="Write it like http://127.0.0.1:8000.",
        )
    return url.rstrip("/").removesuffix("/v1")


def running(args: argparse.Namespace) -> RunState:
    """The cluster of this user. Raises BatonError NO_WORKER where none runs."""
    found = settings(args)
    state = run_dir(found.cluster.run_dir).read(found.cluster.name)
    if state is None or not state.running():
        raise BatonError(Reason.NO_WORKER, f"no cluster {found.cluster.name!r} runs here")
    return state
