"""vLLM's own metrics (`vllm:*`) of one engine, kept where its outputs pass.

vLLM keeps them in its front end, which here sits in the router, before many engines. So the worker
keeps those of its own engine: vLLM's logger is fed with vLLM's statistics of each step and each
leg. One of the few files that touch vLLM's internals (covered by the engine contract tests).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import (
    IterationStats,
    LoRARequestStates,
    RequestStateStats,
    SchedulerStats,
)

from engine.step_work import STEP_KEY

_NO_LORA = LoRARequestStates()


def _now() -> RequestStateStats:
    return RequestStateStats(arrival_time=time.time())


@dataclass(slots=True)
class _Leg:
    prompt_tokens: int
    max_tokens: int | None
    stats: Any = field(default_factory=_now)
    prefilling: bool = True
    cached_tokens: int = 0


class EngineMetrics:
    """Feeds the process's default Prometheus registry. One per process."""

    def __init__(self, config: VllmConfig) -> None:
        self._log = PrometheusStatLogger(config, [0])
        self._legs: dict[str, _Leg] = {}

    def took(self, request: EngineCoreRequest) -> None:
        """A leg goes to the engine."""
        params = request.sampling_params
        most = None if params is None else params.max_tokens
        self._legs[request.request_id] = _Leg(len(request.prompt_token_ids or ()), most)

    def dropped(self, leg_ids: Sequence[str]) -> None:
        """Legs are aborted: of some of them the engine says nothing more."""
        for leg_id in leg_ids:
            self._legs.pop(leg_id, None)

    def stepped(self, outputs: EngineCoreOutputs) -> None:
        """A step came. Call it before its connector's statistics are read by anybody else."""
        stats, at, legs = IterationStats(), outputs.timestamp, self._legs
        for output in outputs.outputs:
            leg = legs.get(output.request_id)
            if leg is None:
                continue
            if leg.prefilling or output.events or output.finish_reason is not None:
                self._add(stats, output, at, leg)
            else:
                _more(stats, leg.stats, len(output.new_token_ids), at)
        scheduled = _vllms(outputs.scheduler_stats)
        self._log.record(scheduled, stats if outputs.outputs else None)

    def _add(self, stats: IterationStats, output: EngineCoreOutput, at: float, leg: _Leg) -> None:
        stats.update_from_output(output, at, leg.prefilling, leg.stats, _NO_LORA, None)
        if leg.prefilling:
            leg.prefilling = False
            if output.prefill_stats is not None:
                leg.cached_tokens = output.prefill_stats.num_cached_tokens
        if output.finish_reason is not None:
            del self._legs[output.request_id]
            stats.update_from_finished_request(
                output.finish_reason,
                output.request_id,
                leg.prompt_tokens,
                leg.max_tokens,
                leg.stats,
                leg.cached_tokens,
            )


def _vllms(stats: SchedulerStats | None) -> SchedulerStats | None:
    """Without what Baton's scheduler put in: the metrics of vLLM's NIXL connectors want all of
    their own keys where there is any."""
    if stats is None or not stats.kv_connector_stats:
        return stats
    own = {key: told for key, told in stats.kv_connector_stats.items() if key != STEP_KEY}
    return replace(stats, kv_connector_stats=own or None)


def _more(stats: IterationStats, leg: RequestStateStats, tokens: int, at: float) -> None:
    """What `update_from_output` does for most tokens, at a tenth of its cost."""
    stats.num_generation_tokens += tokens
    stats.inter_token_latencies_iter.append(at - leg.last_token_ts)
    leg.num_generation_tokens += tokens
    leg.last_token_ts = at
