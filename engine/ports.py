"""What the worker needs of an engine. vLLM stands behind it in `core`, a fake one in tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from engine.step_work import StepWork
from kv_transfer.report import TransferReport


class LegEnd(Enum):
    """How the engine ended a leg."""

    DONE = "done"
    """Stopped or reached its length."""
    ABORTED = "aborted"
    FAILED = "failed"


class Output(Protocol):
    """One leg's share of an engine step: an EngineCoreOutput of vLLM, read through `Engine`."""

    request_id: str


@dataclass(frozen=True, slots=True)
class StepStats:
    """The scheduler's statistics of one step; prefix counters are for this step alone."""

    kv_used: float
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    transfer: TransferReport | None = None
    """What the KV connector says of its transfers; None where it said nothing."""
    work: StepWork | None = None
    """What was computed; None where nothing was."""
    stored: Collection[int] = ()
    """Keys (`baton.prefix_keys`) of blocks that the prefix cache holds since this step."""
    removed: Collection[int] = ()
    """Keys of blocks that it held until this step."""
    left_out: int = 0
    """Blocks since the engine's start whose key is not known; nobody hears of them."""
    block_bytes: int = 0
    """Size of one KV block on one device; 0 = unknown."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one engine step produced."""

    outputs: Sequence[Output]
    stats: StepStats | None = None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine settled on while starting."""

    max_model_len_tokens: int
    block_size_tokens: int
    kv_blocks: int
    dtype: str
    device: str
    vllm_version: str
    pid: int
    transfer_endpoint: bytes = b""
    """What the KV connector published for its peers; empty for connectors that publish nothing."""
    vocabulary: int = 0
    """The model's tokens are the numbers below this one; 0 = unknown."""
    max_running: int = 0
    max_batched_tokens: int = 0
    """Most requests, and most tokens, in one step; 0 = unknown."""


@dataclass(frozen=True, slots=True)
class Moments:
    """When the engine's scheduler did what to a leg, in seconds of the worker's clock."""

    room_at: float | None = None
    """It had blocks for KV that comes from elsewhere; None where none does."""
    landed_at: float | None = None
    """That KV had come."""
    scheduled_at: float | None = None
    """Its first step was scheduled; None = not known."""


class Request(Protocol):
    """A decoded EngineCoreRequest, ready to be added."""

    request_id: str


class Engine(Protocol):
    """A running engine. Leg ids are its request ids."""

    @property
    def facts(self) -> EngineFacts: ...

    def prefill_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any],
        resumed: Sequence[int] = (),
    ) -> Request:
        """The request reduced to computing its prompt: one greedy token, which nobody reads.

        `resumed` are tokens of the answer, computed as if they were part of the prompt. Raises
        BatonError: INVALID_REQUEST when the payload cannot be decoded, and for an answer that
        cannot go on after these tokens what `resuming` says.
        """

    def decode_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int] = (),
    ) -> Request:
        """The request as it came, with its KV's whereabouts, or without them to compute here.

        It goes on after the tokens `resumed` as if the engine had generated them. Raises as
        `prefill_request` does.
        """

    async def add(self, request: Request) -> None: ...

    async def abort(self, leg_ids: Sequence[str]) -> None: ...

    async def step(self) -> Step:
        """The next step's outputs. Raises BatonError ENGINE_FAILED once the engine is dead."""

    def ended(self, output: Output) -> LegEnd | None:
        """How this output ends its leg; None while it goes on. Called once per token."""

    def kv_params(self, output: Output) -> Mapping[str, Any] | None: ...

    def cached_tokens(self, output: Output) -> int: ...

    def moments(self, output: Output) -> Moments:
        """What the scheduler did before a leg's first output; only that output knows."""

    def encode(self, outputs: Sequence[Output]) -> list[bytes]: ...

    async def transfer_report(self) -> TransferReport | None:
        """What the KV connector says of its transfers now; None if nothing has changed."""

    async def peers_dead(self, agents: Sequence[str]) -> None:
        """Tell the KV connector that the engines with these transfer agents have ended."""

    def shutdown(self, timeout_s: float) -> None: ...
