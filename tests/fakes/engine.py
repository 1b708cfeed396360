"""An engine without vLLM: records what it is asked and produces the steps it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baton.errors import BatonError, Reason
from engine.ports import EngineFacts, LegEnd, Moments, Step, StepStats
from kv_transfer.report import TransferReport

GARBAGE = b"garbage"
"""A payload that cannot be decoded."""
FACTS = EngineFacts(
    max_model_len_tokens=1000,
    block_size_tokens=128,
    kv_blocks=64,
    dtype="float32",
    device="cpu",
    vllm_version="0.32.0",
    pid=4711,
)


@dataclass
class FakeRequest:
    """What the roles built."""

    request_id: str
    payload: tuple[bytes, ...]
    kind: str
    kv_params: Mapping[str, Any] | None
    resumed: tuple[int, ...] = ()


@dataclass
class FakeOutput:
    """One leg's share of a step."""

    request_id: str
    token: int = 0
    end: LegEnd | None = None
    kv_params: Mapping[str, Any] | None = None
    cached_tokens: int = 0
    moments: Moments = field(default_factory=Moments)


@dataclass
class FakeEngine:
    """Implements `engine.ports.Engine`."""

    facts: EngineFacts = FACTS
    added: list[FakeRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    steps: asyncio.Queue[Step | BatonError] = field(default_factory=asyncio.Queue)
    refuse_add: BatonError | None = None
    report: TransferReport | None = None
    asked: int = 0
    mourned: list[str] = field(default_factory=list)
    shut_down: bool = False

    def prefill_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any],
        resumed: Sequence[int] = (),
    ) -> FakeRequest:
        return self._request(payload, leg_id, "prefill", kv_params, resumed)

    def decode_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int] = (),
    ) -> FakeRequest:
        return self._request(payload, leg_id, "decode", kv_params, resumed)

    def _request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kind: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int],
    ) -> FakeRequest:
        if GARBAGE in payload:
            raise BatonError(Reason.INVALID_REQUEST, "unreadable request")
        return FakeRequest(leg_id, tuple(payload), kind, kv_params, tuple(resumed))

    async def add(self, request: FakeRequest) -> None:
        if self.refuse_add is not None:
            raise self.refuse_add
        self.added.append(request)

    async def abort(self, leg_ids: Sequence[str]) -> None:
        self.aborted.extend(leg_ids)

    async def step(self) -> Step:
        step = await self.steps.get()
        if isinstance(step, BatonError):
            raise step
        return step

    def emit(self, *outputs: FakeOutput, stats: StepStats | None = None) -> None:
        """Make the next step."""
        self.steps.put_nowait(Step(outputs, stats))

    def die(self, message: str = "the engine process is dead") -> None:
        """Make the next step fail."""
        self.steps.put_nowait(BatonError(Reason.ENGINE_FAILED, message))

    def ended(self, output: FakeOutput) -> LegEnd | None:
        return output.end

    def kv_params(self, output: FakeOutput) -> Mapping[str, Any] | None:
        return output.kv_params

    def cached_tokens(self, output: FakeOutput) -> int:
        return output.cached_tokens

    def moments(self, output: FakeOutput) -> Moments:
        return output.moments

    def encode(self, outputs: Sequence[FakeOutput]) -> list[bytes]:
        return [f"{output.request_id}={output.token}".encode() for output in outputs]

    async def transfer_report(self) -> TransferReport | None:
        self.asked += 1
        return self.report

    async def peers_dead(self, agents: Sequence[str]) -> None:
        self.mourned.extend(agents)

    def shutdown(self, timeout_s: float) -> None:
        self.shut_down = True


def token(leg_id: str, value: int = 0) -> FakeOutput:
    """A token, and the leg goes on."""
    return FakeOutput(leg_id, value)


def last(leg_id: str, value: int = 0, kv_params: Mapping[str, Any] | None = None) -> FakeOutput:
    """The last token of a leg that ends well."""
    return FakeOutput(leg_id, value, LegEnd.DONE, kv_params)


def broken(leg_id: str, end: LegEnd = LegEnd.FAILED) -> FakeOutput:
    """The engine gives a leg up."""
    return FakeOutput(leg_id, 0, end)
