"""How front-end processes are started: vLLM's Rust binary, or its Python server."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from baton.errors import StartupError, StartupFault
from baton.settings import Settings, process_environ
from router.front_processes import Ends, Launch

_TETHER = Path(__file__).with_name("tethered.py")
_RUST_NAME = "vllm-rs"
_KEY = "VLLM_API_KEY"
_KEEP_ALIVE_S = 75
"""As the router's own server."""


def rust_binary(settings: Settings) -> Path:
    """vLLM's Rust front end. Raises StartupError FRONT_END_MISSING where there is none."""
    chosen = settings.router.rust_front_path
    places = [Path(chosen)] if chosen else _places()
    for place in places:
        if os.access(place, os.X_OK) and place.is_file():
            return place
    raise StartupError(
        StartupFault.FRONT_END_MISSING,
        "router.front is rust, but vLLM's Rust front end is not in this environment.",
        details=tuple(f"It was looked for at {place}." for place in places),
    )


def _places() -> list[Path]:
    """Where `make rust-front` puts it, and where the official wheel has it."""
    vllm = importlib.util.find_spec("vllm")
    folders = [] if vllm is None else vllm.submodule_search_locations or []
    return [Path(sys.prefix) / "bin" / _RUST_NAME, *(Path(one) / _RUST_NAME for one in folders)]


def rust_launch(settings: Settings, model: Path, served_name: str) -> Launch:
    """Starts the Rust front end. Raises StartupError where there is none."""
    if _KEY in process_environ():
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"{_KEY} is set and router.front is rust, which would serve whoever asks.",
            hint="Set router.front to in-process or python-processes, which ask for the key.",
        )
    binary, chosen = rust_binary(settings), settings.model
    arguments = {
        "model_tag": str(model),
        "served_model_name": [served_name],
        "max_model_len": chosen.max_model_len_tokens,
        "chat_template": chosen.chat_template_path,
        "tool_call_parser": chosen.tool_call_parser,
        "reasoning_parser": chosen.reasoning_parser,
        "trust_remote_code": chosen.trust_remote_code or None,
        "disable_log_stats": True,
        "http_timeout_keep_alive": _KEEP_ALIVE_S,
        # Told to end, it answers what it has first.
        "shutdown_timeout": math.ceil(settings.cluster.drain_timeout_s),
    }
    given = json.dumps({name: value for name, value in arguments.items() if value is not None})

    def launch(ends: Ends) -> subprocess.Popen[bytes]:
        door, input_, output = ends.fds
        names = ("--listen-fd", "--input-listener-fd", "--output-listener-fd")
        fds = [word for pair in zip(names, (door, input_, output), strict=True) for word in pair]
        words = [str(binary), "frontend", *map(str, fds), "--args-json", given]
        return _tethered(words, ends.fds, {"RUST_LOG": _rust_log(settings)})

    return launch


def _rust_log(settings: Settings) -> str:
    """As much as the router itself logs; refused requests are the router's to log."""
    level = {"info": "warn", "warning": "warn"}.get(settings.log.level, settings.log.level)
    return f"{level},tower_http=off,vllm_engine_core_client::client::stream=off"


def python_launch(settings: Settings, model: Path) -> Launch:
    """Starts vLLM's Python server on the device-less configuration of this model."""
    # A command line is no place for anything that others must not read.
    dump = settings.model_dump(mode="json", include={"model", "engine", "router", "cluster"})
    given = json.dumps({"settings": dump, "model": str(model)})

    def launch(ends: Ends) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "deploy.front_process", *map(str, ends.fds), given]
        return _tethered(words, ends.fds, {"VLLM_LOGGING_LEVEL": "WARNING"})

    return launch


def _tethered(
    command: Sequence[str], fds: Sequence[int], environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    start = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command]
    env = {**process_environ(), **environ}
    return subprocess.Popen(start, pass_fds=fds, env=env, stdin=subprocess.DEVNULL)  # noqa: S603
