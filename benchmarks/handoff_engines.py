"""The pairs of engines that the handoff benchmark measures on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.settings import KvTransferSettings
from benchmarks import link, wide_model
from benchmarks.engines import SETTINGS, ClusterOfTwo, Setup, is_alive, kill
from benchmarks.ways import ThreeHandoffs
from deploy.model import DEMO_MODEL
from engine.model_folder import read_model_folder
from kv_transfer.handoff import Handoff

BLOCK_TOKENS = 32
_CHUNK_TOKENS = 512
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Long enough for the longest prompt on a machine that is busy with other things besides.
_TRANSFER: dict[str, Any] = {
    "connector": "baton",
    "verify": "off",
    "abort_timeout_s": 60.0,
    "write_deadline_s": 120.0,
}


@dataclass(frozen=True)
class Wanted:
    """What one pair of engines differs in from another."""

    max_len_tokens: int
    kv_cache_gib: float
    ucx_tls: str | None
    handoff: Callable[[KvTransferSettings], Handoff] = ThreeHandoffs
    demo_model: bool = False
    """The demo model, in the format that Baton serves it in on this machine, not the wide one."""


@contextmanager
def engines(wanted: Wanted) -> Iterator[ClusterOfTwo]:
    """Two engines on CPU with all connectors."""
    print(f"starting two engines, transports: {wanted.ucx_tls or 'chosen by UCX'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="baton-handoff-") as folder:
        transfer = {**_TRANSFER, "ucx_tls": wanted.ucx_tls}
        settings = _settings(_model(Path(folder), wanted), wanted)
        cluster = ClusterOfTwo(Setup(transfer, settings, wanted.handoff, forked=True))
        try:
            yield cluster
        finally:
            _stop(cluster)


def kv_bytes_per_token(wanted: Wanted, dtype: str) -> int:
    """What one token takes in the caches of engines that compute in `dtype`."""
    if not wanted.demo_model:
        return wide_model.KV_BYTES_PER_TOKEN
    values = read_model_folder(DEMO_MODEL).kv_values_per_token
    assert values is not None
    return values * _BYTES[dtype]


def _stop(cluster: ClusterOfTwo) -> None:
    try:
        cluster.stop()
    finally:
        for each in (cluster.prefill, cluster.decode):
            # An engine that is stuck would take a core from those that are started next.
            for pid in filter(is_alive, (each.info.pid, each.info.engine_pid)):
                kill(pid)


def _model(folder: Path, wanted: Wanted) -> dict[str, Any]:
    if wanted.demo_model:
        return {"path": str(DEMO_MODEL), "dtype": "auto"}
    return {"path": str(wide_model.make(folder, wanted.max_len_tokens))}


def _settings(model: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    made_up = {} if wanted.demo_model else wide_model.DUMMY
    return {
        **SETTINGS,
        "model": {**SETTINGS["model"], **model},
        "engine": {
            "block_size_tokens": BLOCK_TOKENS,
            "kv_cache_gib": wanted.kv_cache_gib,
            "max_batched_tokens": _CHUNK_TOKENS,
            # Two connectors of vLLM in one process would count under the same names.
            "metrics": False,
            # vLLM's connectors could do with it, but not in one engine with those that cannot.
            "extra_args": {**made_up, "disable_hybrid_kv_cache_manager": True},
        },
        "cluster": {"bind_host": link.CONTROL if link.inside() else "127.0.0.1"},
        "log": {"level": "error"},
    }
