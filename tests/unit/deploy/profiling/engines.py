"""An engine that takes exactly as long as its coefficients say, by a clock that it moves itself."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baton.clock import ManualClock
from baton.errors import BatonError, Reason
from deploy.profiling.meter import Meter, Patience
from engine.ports import EngineFacts, LegEnd, Step
from simulator.engine_model.times import EngineTimes
from tests.fakes.engine import FakeEngine, FakeOutput

TIMES = EngineTimes(
    prefill_floor_s=0.017,
    prefill_fixed_s=0.004,
    prefill_token_s=2.4e-5,
    prefill_pair_s=4e-10,
    prefill_cached_s=3e-7,
    step_low_s=0.0048,
    step_low_request_s=2e-5,
    step_high_s=0.0042,
    step_high_request_s=6e-5,
    step_kv_token_s=2e-8,
)
FACTS = EngineFacts(
    max_model_len_tokens=8192,
    block_size_tokens=64,
    kv_blocks=2000,
    dtype="bfloat16",
    device="cpu",
    vllm_version="0.32.0",
    pid=4711,
    vocabulary=5000,
)


def make(name: str, tokens: Sequence[int], max_tokens: int) -> list[Any]:
    """A payload that needs no decoding."""
    return [name, tuple(tokens), max_tokens]


@dataclass
class Running:
    """One request."""

    name: str
    tokens: int
    left: int
    new: int
    cached: int


@dataclass
class ClockedEngine(FakeEngine):
    """Computes all new prompts whole in the next step, with a token for everybody who runs."""

    facts: EngineFacts = FACTS
    times: EngineTimes = TIMES
    clock: ManualClock = field(default_factory=ManualClock)
    noise: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    dies_after: int | None = None
    """Requests."""
    asked_for: int = 0
    waiting: list[Running] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    cache: set[tuple[int, ...]] = field(default_factory=set)

    def decode_request(
        self,
        payload: Sequence[Any],
        leg_id: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int] = (),
    ) -> Any:
        assert kv_params is None
        return payload

    async def add(self, request: Any) -> None:
        name, tokens, max_tokens = request
        assert len(tokens) + max_tokens <= self.facts.max_model_len_tokens
        assert max(tokens) < self.facts.vocabulary
        self.asked_for += 1
        if self.dies_after is not None and self.asked_for > self.dies_after:
            raise BatonError(Reason.ENGINE_FAILED, "the engine process is dead")
        cached = self._cached(tokens)
        self.waiting.append(Running(name, len(tokens), max_tokens, len(tokens) - cached, cached))

    def _cached(self, tokens: tuple[int, ...]) -> int:
        size = self.facts.block_size_tokens
        # Its first and its last tokens name a prefix well enough.
        ends = range(size, len(tokens) + 1, size)
        names = [(end, *tokens[:8], *tokens[end - 8 : end]) for end in ends]
        found = max((name[0] for name in names if name in self.cache), default=0)
        self.cache.update(names)
        return min(found, (len(tokens) - 1) // size * size)

    async def step(self) -> Step:
        admitted, self.waiting = self.waiting, []
        self.clock.advance(self._seconds(admitted) * self.rng.lognormvariate(0, self.noise))
        outputs = [self._token(r, first=True) for r in admitted]
        outputs += [self._token(r, first=False) for r in self.running]
        self.running = [r for r in (*self.running, *admitted) if r.left]
        return Step(outputs)

    def _seconds(self, admitted: list[Running]) -> float:
        kv = sum(r.tokens for r in self.running)
        if not admitted:
            return self.times.step_s(len(self.running), kv)
        if len(admitted) == 1 and not self.running:
            return self.times.prefill_s(admitted[0].new, admitted[0].cached)
        work = sum(self.times.chunk_s(r.new, r.cached) for r in admitted)
        return self.times.iteration_s(work, len(self.running), kv)

    @staticmethod
    def _token(running: Running, *, first: bool) -> FakeOutput:
        running.tokens += 1
        running.left -= 1
        end = None if running.left else LegEnd.DONE
        return FakeOutput(running.name, end=end, cached_tokens=running.cached if first else 0)


def meter(engine: ClockedEngine, silence_s: float = 5.0, repeat_s: float = 60.0) -> Meter:
    patience = Patience(silence_s, repeat_s)
    return Meter(engine, make, engine.clock, random.Random(2), patience)
