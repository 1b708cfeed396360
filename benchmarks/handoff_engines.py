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
from benchmarks.engines import SETTINGS, ClusterOfTwo, Setup
from benchmarks.ways import ThreeHandoffs
from kv_transfer.handoff import Handoff

BLOCK_TOKENS = 32
_CHUNK_TOKENS = 512
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


@contextmanager
def engines(wanted: Wanted) -> Iterator[ClusterOfTwo]:
    """Two engines on CPU with all connectors."""
    print(f"starting two engines, transports: {wanted.ucx_tls or 'chosen by UCX'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="baton-handoff-") as folder:
        settings = _settings(wide_model.make(Path(folder), wanted.max_len_tokens), wanted)
        transfer = {**_TRANSFER, "ucx_tls": wanted.ucx_tls}
        cluster = ClusterOfTwo(Setup(transfer, settings, wanted.handoff, forked=True))
        try:
            yield cluster
        finally:
            cluster.stop()


def _settings(model: Path, wanted: Wanted) -> dict[str, Any]:
    return {
        **SETTINGS,
        "model": {**SETTINGS["model"], "path": str(model)},
        "engine": {
            "block_size_tokens": BLOCK_TOKENS,
            "kv_cache_gib": wanted.kv_cache_gib,
            "max_batched_tokens": _CHUNK_TOKENS,
            # vLLM's connectors could do with it, but not in one engine with those that cannot.
            "extra_args": {**wide_model.DUMMY, "disable_hybrid_kv_cache_manager": True},
        },
        "cluster": {"bind_host": link.CONTROL if link.inside() else "127.0.0.1"},
        "log": {"level": "error"},
    }
