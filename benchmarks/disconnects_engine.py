"""Baton's connector with a window: an engine shows its block pool, requests and tickets.

Loaded by module path inside the engine's process. It changes nothing. The scheduler's and the
worker's half live in one process (one device), so they share what is shown.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.disconnects_plan import Asked, Pool
from benchmarks.soak_probe import serve
from kv_transfer.connector import BatonConnector

if TYPE_CHECKING:
    import torch
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.request import Request

FOLDER = "disconnects_folder"


class _Engine:
    """What this process shows of itself, to a thread that only reads."""

    def __init__(self) -> None:
        self.manager: Any = None
        self.side: Any = None
        self.mover: Any = None
        self.requests: dict[str, Request] = {}
        self.step_ended_s = 0.0

    def look(self) -> Pool:
        pool, report = self.manager.block_pool, self.mover.report()
        # The engine's thread goes on meanwhile; a list of the values is made in one piece.
        requests = tuple(map(_asked, list(self.requests.values())))
        legs, tickets = len(self.side.open_legs), sum(report.tickets.values())
        # One block is nobody's: vLLM keeps it as a placeholder.
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        fenced, now = report.fenced_blocks, time.monotonic()
        return Pool(now, used, requests, legs, tickets, fenced, self.step_ended_s)


def _asked(request: Any) -> Asked:
    return Asked(request.num_computed_tokens, request.num_output_tokens)


_ENGINE = _Engine()


class WatchedConnector(BatonConnector):
    """Loaded by module path."""

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        _ENGINE.manager, _ENGINE.side = kv_cache_manager, self._side

    def on_new_request(self, request: Request) -> None:
        super().on_new_request(request)
        _ENGINE.requests[request.request_id] = request

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        _ENGINE.requests.pop(request.request_id, None)
        return super().request_finished(request, block_ids)

    def wait_for_save(self) -> None:
        super().wait_for_save()
        _ENGINE.step_ended_s = time.monotonic()

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        super().register_kv_caches(kv_caches)
        _ENGINE.mover = self._mover
        folder = self._vllm_config.kv_transfer_config.kv_connector_extra_config[FOLDER]
        shown: Any = _ENGINE
        serve(shown, Path(folder), os.getpid())
