"""The decode half of one router in the cluster model: the policy's code fed from what is seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from baton.costs import DECODE, PREFILL, TRANSFER, Fit, WorkerCosts, ttft_s
from baton.ids import WorkerId
from router.policy.decode_choice import DecodeWorker, choose
from router.policy.division import Forecast, Promise, divide
from simulator.engine_model.times import EngineTimes
from simulator.plugs import Sight, View
from simulator.rules import ClusterRules
from simulator.traces.request import Request

_HIDDEN = 0.9
"""Share of the transfer that prefill covers: all but the last layers, and the word of it."""


@dataclass(frozen=True, slots=True)
class PairingRules:
    """`output_tokens` is what a router has learned to expect of an answer."""

    promise: Promise
    output_tokens: int = 350
    chunk_tokens: int = 2048
    """What a decode worker computes of a prompt between two steps."""


class Pairing:
    """Chooses decode workers, and says when a prompt is better computed there, too."""

    def __init__(self, cluster: ClusterRules, rules: PairingRules) -> None:
        self._rules = rules
        self._costs = costs_of(cluster)

    def decode(self, request: Request, view: View) -> WorkerId | None:
        """Who answers; None without decode workers."""
        workers = [self._seen(sight, request) for sight in view.decode]
        choice = choose(workers, request.input_tokens, self._rules.output_tokens)
        return choice.worker_id if choice else None

    def whole(
        self, request: Request, view: View, now: float, prefill_ttft_s: float
    ) -> WorkerId | None:
        """The decode worker that should compute the prompt, too; None when it is divided."""
        name = self.decode(request, view)
        if name is None:
            return None
        sight = next(s for s in view.decode if s.worker_id == name)
        waited_s, cached = now - request.arrival_s, sight.cached_tokens(request)
        apart = self._apart(sight, request, waited_s + prefill_ttft_s, cached)
        whole = self._whole(sight, request, waited_s, cached)
        return None if divide(apart, whole, self._rules.promise).apart else name

    def _apart(self, sight: Sight, request: Request, computed_s: float, cached: int) -> Forecast:
        step_s = self._step_s(sight, request)
        transfer_s = self._costs.transfer_s(request.input_tokens - cached)
        return Forecast(ttft_s(computed_s, step_s, transfer_s, _HIDDEN), step_s)

    def _whole(self, sight: Sight, request: Request, waited_s: float, cached: int) -> Forecast:
        """TPOT is that of the longest gap: a mean would hide every prompt."""
        new = request.input_tokens - cached
        prefill_s = self._costs.prefill_s(new, cached)
        stall_s = prefill_s / math.ceil(new / self._rules.chunk_tokens)
        queue_s = waited_s + sight.backlog_s + sight.pending_work_s
        return Forecast(queue_s + prefill_s, self._step_s(sight, request) + stall_s)

    def _step_s(self, sight: Sight, request: Request) -> float:
        kv_tokens = _kv_tokens(sight) + request.input_tokens
        return self._costs.decode_step_s(_batch(sight) + 1, kv_tokens)

    def _seen(self, sight: Sight, request: Request) -> DecodeWorker:
        return DecodeWorker(
            sight.worker_id,
            self._costs,
            _batch(sight),
            _kv_tokens(sight),
            sight.kv_capacity,
            sight.cached_tokens(request),
        )


def costs_of(cluster: ClusterRules) -> WorkerCosts:
    """What a router would have learned of engines with these times."""
    times, network = cluster.times, cluster.network
    byte_s = times.kv_bytes_per_token / network.bytes_per_s
    return WorkerCosts(
        Fit(PREFILL, (times.prefill_fixed_s, times.prefill_token_s, times.prefill_pair_s)),
        Fit(DECODE, (*_step_line(times), times.step_kv_token_s)),
        Fit(TRANSFER, (network.latency_s, byte_s)),
    )


def _step_line(times: EngineTimes) -> tuple[float, float]:
    """One line instead of the larger of two, right at small and at middling batches."""
    low_s, high_s = (times.step_s(batch, 0) for batch in (1, 64))
    slope_s = (high_s - low_s) / 63
    return max(low_s - slope_s, 0.0), slope_s


def _batch(sight: Sight) -> int:
    return sight.batch + sight.pending_requests


def _kv_tokens(sight: Sight) -> int:
    """In use or promised: prompts that share blocks take memory once, whatever their context."""
    return sight.kv_used + sight.kv_promised + sight.pending_tokens
