"""Baton's connector with faults in it: messages get lost, repeated or late; prefill stops itself.

Loaded by module path inside the engine's process. The faults are between NIXL and the mover, and
say nothing to either. The scheduler's and the worker's half live in one process (one device), so
they share what is shown of the pool.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults

from benchmarks.soak_faults import Postman, name_in, spoil_of
from benchmarks.soak_probe import Look, serve
from kv_transfer.agent import Agent
from kv_transfer.connector import BatonConnector

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheManager

FOLDER = "soak_folder"
DELAY_MAX = "soak_delay_max_s"


class _Engine:
    """What this process shows of itself."""

    def __init__(self) -> None:
        self.postman = Postman(0.0)
        self.failed_loads: set[str] = set()
        self.manager: Any = None
        self.caches: list[torch.Tensor] = []
        self.writes: Counter[str] = Counter()

    def look(self) -> Look:
        counts = {fate.value: count for fate, count in self.postman.fates.copy().items()}
        if self.manager is None:
            return Look(0, {}, frozenset(), counts)
        pool = self.manager.block_pool
        # One block is nobody's: vLLM keeps it as a placeholder.
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        return Look(used, self._held(), frozenset(self.failed_loads.copy()), counts)

    def _held(self) -> dict[str, tuple[int, ...]]:
        (manager,) = self.manager.coordinator.single_type_managers
        rows = manager.req_to_blocks
        # The engine's thread goes on meanwhile; a list of the keys is made in one piece.
        held = {name: tuple(b.block_id for b in list(rows.get(name, ()))) for name in list(rows)}
        return {name: blocks for name, blocks in held.items() if blocks}

    def references(self) -> list[int]:
        return [block.ref_cnt for block in self.manager.block_pool.blocks]

    def sums(self) -> list[int]:
        blocks = len(self.manager.block_pool.blocks)
        return [self._sum(block, blocks) for block in range(blocks)]

    def _sum(self, block: int, blocks: int) -> int:
        found = 0
        for cache in self.caches:
            dimension = next(d for d, size in enumerate(cache.shape) if size == blocks)
            part = cache.select(dimension, block).contiguous().view(torch.uint8)
            found = zlib.crc32(part.numpy(), found)
        return found

    def posted(self, *said: Any) -> None:
        """A write was posted: stop here if its ticket wants that."""
        for name in filter(None, map(name_in, (s for s in said if isinstance(s, bytes)))):
            self.writes[name] += 1
            if self.writes[name] == spoil_of(name).stop_at:
                os.kill(os.getpid(), signal.SIGSTOP)


_ENGINE = _Engine()


def _spoil(agent: Any) -> None:
    """Come between this class and whoever uses it."""
    honest_notices, honest_write = agent.notices, agent.write

    def notices(self: Any) -> list[tuple[str, bytes]]:
        return _ENGINE.postman.deliver(honest_notices(self), time.monotonic())

    def write(self: Any, *args: Any, **kwargs: Any) -> Any:
        handle = honest_write(self, *args, **kwargs)
        _ENGINE.posted(*args, *kwargs.values())
        return handle

    agent.notices, agent.write = notices, write


_spoil(Agent)


class FaultyConnector(BatonConnector):
    """Loaded by module path."""

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        _ENGINE.manager = kv_cache_manager

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        settings = self._vllm_config.kv_transfer_config.kv_connector_extra_config
        _ENGINE.caches = list(kv_caches.values())
        _ENGINE.postman.delay_max_s = settings[DELAY_MAX]
        serve(_ENGINE, Path(settings[FOLDER]), os.getpid())
        super().register_kv_caches(kv_caches)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        results = super().get_transfer_results(finished_req_ids)
        _ENGINE.failed_loads |= results.failed_recving
        return results
