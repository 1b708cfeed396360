"""Baton's own KV connector: prefill writes into decode's blocks while it computes, layer by layer.

Loaded by vLLM by module path, once as the scheduler's half and once as the worker's. One of the few
files that touch vLLM's internals (covered by the engine contract tests); what it decides lies in
`scheduling`, `mover` and `ticket`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    KVConnectorWorkerMetadata,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.request import RequestStatus

from baton.clock import MonotonicClock
from kv_transfer.agent import Agent
from kv_transfer.endpoint import Layout, Region, decode_endpoint, encode_endpoint, joined
from kv_transfer.envelopes import News, RankEndpoint, StepOrders, TransferStats
from kv_transfer.mover import Mover
from kv_transfer.moving import Memory, MoverLimits, Results
from kv_transfer.orders import Cover, Done, Orders, PeersDead
from kv_transfer.pair_tests import Rules
from kv_transfer.report import TransferReport, stats_key, to_plain
from kv_transfer.scheduling import SchedulingSide
from kv_transfer.self_test import Floor, TestLimits
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
# here for the mover frees the core and hears of a landing at once. New requests wait for it, too:
# a little at first, more in a long wait, since each step costs two processes 1 to 2 ms.
_IDLE_WAIT_S, _IDLE_WAIT_MAX_S = 0.004, 0.02
_IDLE_STEPS = 5
"""So many idle steps in a row lengthen the wait by its first length."""
_WELL = (RequestStatus.FINISHED_LENGTH_CAPPED, RequestStatus.FINISHED_STOPPED)


class BatonConnector(KVConnectorBase_V1):
    """Full attention, one KV cache group, devices joined by tensor parallelism alone.

    Each rank's worker half has a mover of its own, which speaks to that of the same rank of a peer.
    A load or a send is over once it is over on every rank: vLLM counts the ranks that report it.
    """

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        _refuse_unsupported(vllm_config, kv_cache_config)
        self._vllm_config = vllm_config
        self._blocks = kv_cache_config.num_blocks
        self._block_tokens: int = vllm_config.cache_config.block_size
        self._settings = vllm_config.kv_transfer_config.kv_connector_extra_config
        self._rank, self._ranks = 0, vllm_config.parallel_config.tensor_parallel_size
        self._name = f"baton-{vllm_config.kv_transfer_config.engine_id}"
        self._endpoint = b""
        self._side = SchedulingSide(self._block_tokens, self._settings["stream"])
        self._mover: Mover | None = None
        self._orders = Orders()
        self._covers: tuple[Cover, ...] = ()
        self._layer_of: dict[str, int] = {}
        self._layers_done = 0
        self._on_gpu = vllm_config.device_config.device_type == "cuda"
        self._results = Results()
        self._idle_steps = 0
        self._reported: TransferReport | None = None

    # -- the scheduler's half

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        self._side.bind_pool(kv_cache_manager.block_pool)

    def on_new_request(self, request: Request) -> None:
        self._side.arrived(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
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
        meta = connector_output.kv_connector_worker_meta
        news = meta if isinstance(meta, News) else News(set(), set())
        for request_id in news.admitted:
            self._side.admitted(request_id)
        for request_id in connector_output.finished_sending or ():
            self._side.sent(request_id)
        for request_id in connector_output.finished_recving or ():
            self._side.received(request_id)
        for request_id in news.failed:
            self._side.failed(request_id)

    def set_xfer_handshake_metadata(
        self, metadata: dict[int, KVConnectorHandshakeMetadata]
    ) -> None:
        ranks = {
            rank: decode_endpoint(one.endpoint)
            for rank, one in metadata.items()
            if isinstance(one, RankEndpoint)
        }
        StartReport(report_path(os.getppid())).endpoint(encode_endpoint(joined(ranks)))

    # -- the worker's half

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        settings = self._settings
        self._rank = get_tensor_model_parallel_rank()
        # Layers that share their KV come with the same memory.
        owners = {cache.data_ptr(): name for name, cache in reversed(kv_caches.items())}
        caches = {name: kv_caches[name] for name in kv_caches if name in owners.values()}
        self._layer_of = {name: layer for layer, name in enumerate(caches)}
        tensors = _by_block(list(caches.values()), self._blocks)
        layout = _layout(tensors, self._blocks, self._block_tokens, len(caches))
        layout = replace(layout, rank=self._rank, ranks=self._ranks)
        agent = Agent(self._name, layout)
        checking = Checking(settings["verify"])
        sums = Sums(views_of(tensors, self._blocks), layout.layers)
        floor = Floor(settings["min_gb_per_second"], settings["refuse_slow"])
        tests = Rules(layout.block_bytes, floor, TestLimits(write_bytes=agent.scratch_bytes))
        limits = MoverLimits(
            settings["write_deadline_s"], settings["hold_s"], checking, tests, settings["ucx_tls"]
        )
        off = checking is Checking.OFF
        of = None if off else sums.of
        memory = Memory(layout.block_bytes, layout.layers, of, self._rank, self._ranks)
        enter = _thread_entry(tensors[0].device)
        self._mover = Mover(agent, limits, MonotonicClock(), memory, enter)
        self._endpoint = encode_endpoint(agent.endpoint())
        self._mover.start()

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        return RankEndpoint(self._endpoint)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        assert isinstance(connector_metadata, StepOrders)
        self._orders = connector_metadata.orders
        self._covers = tuple(self._orders.computed)
        self._layers_done = 0
        if self._mover is not None and self._orders.at_once:
            self._mover.feed(self._orders.at_once)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing: registrations leave before the computation."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: a request is scheduled only after its KV has landed."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        # Called once the layer's attention is launched; its KV was written before that. Layers of
        # another order, or that share KV, wait for the end of the step.
        if self._layer_of.get(layer_name) != self._layers_done:
            return
        self._layers_done += 1
        if self._mover is not None and any(cover.by_layer for cover in self._covers):
            step = Done(self._covers, self._layers_done, self._launched())
            self._mover.feed((step,), wake=False)

    def wait_for_save(self) -> None:
        if self._mover is not None and self._covers:
            self._mover.feed((Done(self._covers, len(self._layer_of), self._launched()),))
        self._covers = ()

    def _launched(self) -> Callable[[], bool] | None:
        """Whether what this thread has launched until now is done; None = it is."""
        if not self._on_gpu:
            return None
        event = torch.cuda.Event()
        event.record()
        ready: Callable[[], bool] = event.query
        return ready

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        if self._mover is None:
            return KVConnectorTransferResults()
        results = self._results = self._mover.take(self._idle_wait_s())
        failed = set(results.failed)
        return KVConnectorTransferResults(results.sent, results.received | failed, failed)

    def _idle_wait_s(self) -> float:
        """How long this step may wait for news."""
        quiet = self._orders.idle and not self._orders.at_once and self._results == Results()
        self._idle_steps = self._idle_steps + 1 if quiet else 0
        longer = 1 + self._idle_steps // _IDLE_STEPS
        return min(_IDLE_WAIT_S * longer, _IDLE_WAIT_MAX_S) if self._orders.idle else 0.0

    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        admitted, failed = self._results.admitted, set(self._results.failed)
        return News(admitted, failed) if admitted or failed else None

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        report = None if self._mover is None else self._mover.report()
        if report is None or report == self._reported:
            return None
        self._reported = report
        return TransferStats({stats_key(self._rank): to_plain(report)})

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        return TransferStats(data or {})

    def peers_dead(self, agents: tuple[str, ...]) -> None:
        """The owner knows that these agents' processes have ended."""
        if self._mover is not None:
            self._mover.feed((PeersDead(agents),))

    def shutdown(self) -> None:
        if self._mover is not None:
            self._mover.stop()


def _refuse_unsupported(config: VllmConfig, kv_cache: KVCacheConfig) -> None:
    advice = "use kv_transfer.connector: vllm-nixl-pull"
    kinds = [type(group.kv_cache_spec) for group in kv_cache.kv_cache_groups]
    if len(kinds) > 1 or not issubclass(kinds[0], FullAttentionSpec):
        names = ", ".join(sorted({kind.__name__ for kind in kinds}))
        raise ValueError(
            f"Baton's connector moves the KV of full attention; this model has {names}: {advice}"
        )
    parallel = config.parallel_config
    sizes = {
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "prefill_context_parallel_size": parallel.prefill_context_parallel_size,
        "decode_context_parallel_size": parallel.decode_context_parallel_size,
    }
    if other := ", ".join(f"{name} is {size}" for name, size in sizes.items() if size > 1):
        # Their devices hold other layers, or other tokens, of a block.
        raise ValueError(f"Baton's connector knows tensor parallelism alone, and {other}; {advice}")


def _thread_entry(device: torch.device) -> Callable[[], None]:
    """What the mover's thread does first."""
    # Threads inherit the engine's binding to its cores; the copies belong beside, not on them.
    cores = os.sched_getaffinity(os.getppid())

    def enter() -> None:
        os.sched_setaffinity(0, cores)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # Checksums must not wait for the model's stream.
            torch.cuda.set_stream(torch.cuda.Stream(device))

    return enter


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


def _layout(tensors: list[torch.Tensor], blocks: int, block_tokens: int, layers: int) -> Layout:
    regions = tuple(
        Region(t.data_ptr(), t.stride(0) * t.element_size(), t[0].numel() * t.element_size())
        for t in tensors
    )
    first = tensors[0]
    on_cpu = first.device.type == "cpu"
    facts = (
        tuple(first.shape[1:]),
        first.stride()[1:],
        len(tensors),
        str(first.dtype),
        # On CPU the bytes inside a block are packed by instruction set.
        torch.backends.cpu.get_cpu_capability() if on_cpu else "",
    )
    memory, device = ("DRAM", 0) if on_cpu else ("VRAM", first.device.index or 0)
    return Layout(regions, blocks, block_tokens, memory, device, str(facts), layers)
