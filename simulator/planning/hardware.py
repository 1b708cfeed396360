"""Choices of engine from profiles: the times are fitted, memory and GPUs are told by the file.

Beside what `engine_model.profile` reads, a profile may hold an object `engine`:

    gpus                  GPUs of one engine, or tensor_parallel_size     default 1
    kv_tokens             tokens of KV that fit into its memory           default 820,000
    max_batched_tokens    tokens of one step                              default 16,384
    max_running           requests at once                                default 512
    cores                 engines that one machine runs side by side      default 0: GPUs
    network_gbit          of one worker's way to others, in Gb/s          default 400
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.engine_model.fit import FitError, fit
from simulator.engine_model.profile import ProfileError, load_profile
from simulator.planning.setups import Hardware
from simulator.rules import EngineRules, NetworkRules

_RULES = {
    "kv_tokens": "kv_tokens",
    "max_running": "max_running",
    "max_num_seqs": "max_running",
    "max_batched_tokens": "max_batched_tokens",
    "max_num_batched_tokens": "max_batched_tokens",
}
"""By name in a profile: the field of EngineRules."""
_KNOWN = (*_RULES, "gpus", "tensor_parallel_size", "cores", "network_gbit")


def load_hardware(
    path: Path, changes: Mapping[str, int] | None = None
) -> tuple[Hardware, tuple[FitError, ...]]:
    """The engine of a profile, and how well its times are described. `changes` go before what the
    file says of `engine`. Raises ProfileError."""
    found = fit(load_profile(path))
    told = {**_told(path), **(changes or {})}
    rules = {_RULES[name]: value for name, value in told.items() if name in _RULES}
    gpus, gbit = told.get("gpus", told.get("tensor_parallel_size", 1)), told.get("network_gbit", 0)
    network = NetworkRules(bytes_per_s=gbit * 1e9 / 8) if gbit else NetworkRules()
    try:
        return Hardware(
            path.stem, found.times, EngineRules(**rules), gpus, network, told.get("cores", 0)
        ), found.errors
    except ValueError as error:
        raise ProfileError(f"{path}: engine: {error}") from None


def _told(path: Path) -> dict[str, int]:
    engine: Any = json.loads(path.read_text(encoding="utf-8")).get("engine", {})
    if not isinstance(engine, dict):
        raise ProfileError(f"{path}: engine has to be an object")
    known = {n: v for n, v in engine.items() if n in _KNOWN}
    for name, value in known.items():
        if type(value) is not int or value < 1:
            why = f"has to be a whole number of at least 1: {value!r}"
            raise ProfileError(f"{path}: engine.{name} {why}")
    return known
