"""Baton's own KV connector: prefill writes into decode's blocks while it computes.

Loaded by vLLM by module path, once as the scheduler's half and once as the worker's. One of the few
files that touch vLLM's internals (covered by the engine contract tests); what it decides lies in
`scheduling`, `mover` and `ticket`.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
)
from vllm.v1.request import RequestStatus

from baton.clock import MonotonicClock
from kv_transfer.agent import Agent
from kv_transfer.endpoint import Layout, Region, encode_endpoint
from kv_transfer.mover import Mover
from kv_transfer.moving import Memory, MoverLimits
from kv_transfer.orders import Orders
from kv_transfer.scheduling import SchedulingSide
from kv_transfer.start_report import StartReport, report_path
from kv_transfer.sums import Sums, views_of
from kv_transfer.ticket.states import Checking

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

# An engine that only waits for transfers is stepped again and again, 700 times a second. Waiting
# here for the mover's news frees the core, hears of a landing sooner, and delays new requests by
# no more than this.
_IDLE_WAIT_S = 0.004
_WELL = (RequestStatus.FINISHED_LENGTH_CAPPED, RequestStatus.FINISHED_STOPPED)


class StepOrders(KVConnectorMetadata):
    """One step's orders on their way from the scheduler's half to the worker's."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders


class BatonConnector(KVConnectorBase_V1):
    """Push, chunk by chunk. Full attention, one KV cache group, one device per engine."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        _refuse_unsupported(vllm_config, kv_cache_config)
        self._vllm_config = vllm_config
        self._blocks = kv_cache_config.num_blocks
        self._block_tokens: int = vllm_config.cache_config.block_size
        self._side = SchedulingSide(self._block_tokens)
        self._mover: Mover | None = None
        self._orders = Orders()
        self._idle = False

    # -- the scheduler's half

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        self._side.bind_pool(kv_cache_manager.block_pool)

    def on_new_request(self, request: Request) -> None:
        self._side.arrived(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int, bool]:
        return self._side.matched_tokens(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        ids = blocks.get_block_ids() if num_external_tokens else None
        self._side.allocated(request, list(ids[0]) if ids else [], num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return StepOrders(self._side.orders(scheduler_output))

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._side.finished(request, well=request.status in _WELL), None

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        for request_id in connector_output.finished_sending or ():
            self._side.sent(request_id)
        for request_id in connector_output.finished_recving or ():
            self._side.received(request_id)

    # -- the worker's half

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        settings = self._vllm_config.kv_transfer_config.kv_connector_extra_config
        tensors = _by_block(list(kv_caches.values()), self._blocks)
        layout = _layout(tensors, self._blocks, self._block_tokens)
        agent = Agent(f"baton-{uuid.uuid4().hex}", list(kv_caches.values()), layout)
        checking = Checking(settings["verify"])
        sums = None if checking is Checking.OFF else Sums(views_of(tensors, self._blocks))
        limits = MoverLimits(settings["write_deadline_s"], settings["hold_s"], checking)
        memory = Memory(layout.block_bytes, sums.of if sums else None)
        self._mover = Mover(agent, limits, MonotonicClock(), memory)
        StartReport(report_path(os.getppid())).endpoint(encode_endpoint(agent.endpoint()))
        self._mover.start()

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        assert isinstance(connector_metadata, StepOrders)
        self._orders = connector_metadata.orders
        self._idle = self._orders.idle
        if self._mover is not None and self._orders.at_once:
            self._mover.feed(self._orders.at_once)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing: registrations leave before the computation."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: a request is scheduled only after its KV has landed."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing: blocks leave when the step has computed all their layers."""

    def wait_for_save(self) -> None:
        # On CPU the step has been computed when this is called.
        if self._mover is not None and self._orders.computed:
            self._mover.feed(self._orders.computed)
        self._orders = Orders()

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        if self._mover is None:
            return KVConnectorTransferResults()
        results = self._mover.take(_IDLE_WAIT_S if self._idle else 0.0)
        failed = set(results.failed)
        return KVConnectorTransferResults(results.sent, results.received | failed, failed)

    def shutdown(self) -> None:
        if self._mover is not None:
            self._mover.stop()


def _refuse_unsupported(config: VllmConfig, kv_cache: KVCacheConfig) -> None:
    advice = "use kv_transfer.connector: vllm-nixl-pull"
    if len(kv_cache.kv_cache_groups) > 1:
        raise ValueError(f"Baton's connector moves one kind of KV cache; for this model {advice}")
    if config.parallel_config.world_size > 1:
        raise ValueError(f"Baton's connector serves one device per engine so far; {advice}")
    if config.device_config.device_type != "cpu":
        raise ValueError(f"Baton's connector moves KV in host memory so far; on GPUs {advice}")


def _by_block(tensors: list[torch.Tensor], blocks: int) -> list[torch.Tensor]:
    """The same memory with the block as first dimension; K and V apart where they lie apart."""
    found: list[torch.Tensor] = []
    for tensor in tensors:
        if tensor.shape[0] == blocks:
            found.append(tensor)
        elif tensor.shape[1] == blocks:
            found.extend(tensor.unbind(0))
        else:
            raise ValueError(f"no dimension of {tuple(tensor.shape)} counts {blocks} blocks")
    return found


def _layout(tensors: list[torch.Tensor], blocks: int, block_tokens: int) -> Layout:
    regions = tuple(
        Region(t.data_ptr(), t.stride(0) * t.element_size(), t[0].numel() * t.element_size())
        for t in tensors
    )
    # On CPU the bytes inside a block are packed by instruction set.
    facts = (
        tuple(tensors[0].shape[1:]),
        len(tensors),
        str(tensors[0].dtype),
        torch.backends.cpu.get_cpu_capability(),
    )
    return Layout(regions, blocks, block_tokens, "DRAM", 0, str(facts))
