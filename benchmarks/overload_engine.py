"""An engine that computes nothing and takes its time over it.

It stands where vLLM's client of an engine process stands, behind Baton's own `EngineCore`: one
queue of prompts, one prompt to a step; all that generate get a token of each step. KV that was
handed over is a word in an `Office` that the engines of one process share. Time passes on the
clock, but a late wake-up is caught up with: a busy machine does not make the engines slower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.metrics.stats import SchedulerStats

from benchmarks.overload_plan import Times
from engine.step_work import STEP_KEY, StepReport, StepWork, to_plain
from kv_transfer.scheduling import DECODE, PREFILL

TOKEN = 300
"""What every step generates."""


class Office:
    """Which prompts have been handed over, by ticket, and who waits for one."""

    def __init__(self) -> None:
        self._here: set[str] = set()
        self._waiting: dict[str, Callable[[], None]] = {}

    def bring(self, ticket: str) -> None:
        """A prompt's KV has arrived."""
        if then := self._waiting.pop(ticket, None):
            then()
        else:
            self._here.add(ticket)

    def fetch(self, ticket: str, then: Callable[[], None]) -> None:
        """Call `then` once it has."""
        if ticket in self._here:
            self._here.remove(ticket)
            then()
        else:
            self._waiting[ticket] = then

    def forget(self, ticket: str) -> None:
        """Nobody needs it any more."""
        self._here.discard(ticket)
        self._waiting.pop(ticket, None)


@dataclass(slots=True)
class _Leg:
    leg_id: str
    kind: str
    """Which end of a handoff; empty = none."""
    ticket: str
    prompt_tokens: int
    tokens_max: int
    tokens: int = 0

    def output(self) -> EngineCoreOutput:
        self.tokens += 1
        ended = FinishReason.LENGTH if self.tokens >= self.tokens_max else None
        return EngineCoreOutput(self.leg_id, [TOKEN], finish_reason=ended)


def _leg(request: EngineCoreRequest) -> _Leg:
    params = request.sampling_params
    assert params is not None
    transfer = (params.extra_args or {}).get("kv_transfer_params", {})
    return _Leg(
        request.request_id,
        transfer.get("baton", ""),
        transfer.get("ticket", ""),
        len(request.prompt_token_ids or ()),
        params.max_tokens or 1,
    )


class SimulatedClient:
    """The part of vLLM's `AsyncMPClient` that `EngineCore` calls."""

    def __init__(self, times: Times, kv_tokens: int, office: Office) -> None:
        self._times = times
        self._kv_tokens = kv_tokens
        self._office = office
        self._legs: dict[str, _Leg] = {}
        self._prompts: dict[str, _Leg] = {}
        """Those to be computed, in order."""
        self._running: dict[str, _Leg] = {}
        self._work = asyncio.Event()
        self._free_at = 0.0
        """When the next step begins, or began."""

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        """Takes a leg; one whose KV comes from elsewhere waits for it."""
        leg = self._legs[request.request_id] = _leg(request)
        if leg.kind == DECODE:
            self._office.fetch(leg.ticket, lambda: self._waits_in(self._running, leg))
        else:
            self._waits_in(self._prompts, leg)

    def _waits_in(self, legs: dict[str, _Leg], leg: _Leg) -> None:
        if not self._prompts and not self._running:
            self._free_at = max(self._free_at, time.monotonic())
        legs[leg.leg_id] = leg
        self._work.set()

    async def abort_requests_async(self, leg_ids: Sequence[str]) -> None:
        """Forgets legs."""
        for leg_id in leg_ids:
            if leg := self._legs.get(leg_id):
                self._forget(leg)
                self._office.forget(leg.ticket)

    def _forget(self, leg: _Leg) -> None:
        for legs in (self._legs, self._prompts, self._running):
            legs.pop(leg.leg_id, None)

    async def get_output_async(self) -> EngineCoreOutputs:
        """The next step, when it is over."""
        while not self._prompts and not self._running:
            self._work.clear()
            await self._work.wait()
        prompt = next(iter(self._prompts.values()), None)
        batch = list(self._running.values())
        work = self._price(prompt, batch)
        self._free_at += work.seconds
        await asyncio.sleep(max(self._free_at - time.monotonic(), 0))
        return EngineCoreOutputs(
            outputs=self._outputs(prompt, batch), scheduler_stats=self._stats(work)
        )

    def _price(self, prompt: _Leg | None, batch: Sequence[_Leg]) -> StepWork:
        decodes, kv = len(batch), sum(leg.prompt_tokens + leg.tokens for leg in batch)
        if prompt is None:
            return StepWork(decodes=decodes, kv_tokens=kv, seconds=self._times.decode_s(decodes))
        new = prompt.prompt_tokens
        # Beside a prompt decoding costs its share, but no step of its own.
        seconds = self._times.prefill_s(new) + self._times.step_request_s * decodes
        return StepWork(1.0, new, new * new / 2, decodes, kv, seconds)

    def _outputs(self, prompt: _Leg | None, batch: Sequence[_Leg]) -> list[EngineCoreOutput]:
        """Of those that nobody has aborted meanwhile."""
        if prompt is not None and prompt.leg_id in self._prompts:
            del self._prompts[prompt.leg_id]
            batch = [*batch, self._computed(prompt)]
        outputs = [leg.output() for leg in batch if leg.leg_id in self._legs]
        for output in outputs:
            if output.finish_reason is not None:
                self._forget(self._legs[output.request_id])
        return outputs

    def _computed(self, prompt: _Leg) -> _Leg:
        if prompt.kind == PREFILL:
            self._office.bring(prompt.ticket)
        else:
            self._running[prompt.leg_id] = prompt
        return prompt

    def _stats(self, work: StepWork) -> SchedulerStats:
        used = sum(leg.prompt_tokens + leg.tokens for leg in self._running.values())
        return SchedulerStats(
            kv_cache_usage=min(used / self._kv_tokens, 1.0),
            kv_connector_stats={STEP_KEY: to_plain(StepReport(work))},
        )

    async def collective_rpc_async(self, method: str, args: Sequence[Any] = ()) -> list[Any]:
        """There is no connector to be called."""
        return [None]

    def shutdown(self, timeout: float | None = None) -> None:
        """There is no process to be ended."""
