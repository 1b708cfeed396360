"""A KV connector that spoils what it fetched, for requests that ask for it.

A request whose `kv_transfer_params` carry `corrupt_layer` gets that layer's part of its received
blocks zeroed before the engine hears that they are there. The scheduler's and the worker's half of
the connector live in one process (one device), so they share a dictionary.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults

from kv_transfer.quiet_nixl import QuietNixlPullConnector
from kv_transfer.vllm_nixl import VllmNixlPull

MARK = "corrupt_layer"
_SPOILED: dict[str, int] = {}


class CorruptibleHandoff(VllmNixlPull):
    """vLLM's connector with the fault in it; says what it always says."""

    def transfer_config(self, device: str) -> dict[str, Any]:
        return {
            **super().transfer_config(device),
            "kv_connector": CorruptingConnector.__name__,
            "kv_connector_module_path": __name__,
        }


class CorruptingConnector(QuietNixlPullConnector):
    """Loaded by module path."""

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        params = request.kv_transfer_params or {}
        if MARK in params and params.get("do_remote_prefill"):
            _SPOILED[request.request_id] = params[MARK]
        super().update_state_after_alloc(request, blocks, num_external_tokens)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        waiting = {
            request_id: list(meta.local_physical_block_ids[0])
            for request_id, meta in self.connector_worker._recving_metadata.items()
            if request_id in _SPOILED
        }
        results = super().get_transfer_results(finished_req_ids)
        for request_id in results.finished_recving & waiting.keys():
            self._spoil(_SPOILED.pop(request_id), waiting[request_id])
        return results

    def _spoil(self, layer: int, block_ids: list[int]) -> None:
        worker = self.connector_worker
        (name,) = (n for n in worker.device_kv_caches if f".{layer}." in n)
        cache = worker.device_kv_caches[name]
        (dimension,) = (d for d, size in enumerate(cache.shape) if size == worker.num_blocks)
        cache.index_fill_(dimension, torch.tensor(block_ids), 0)
