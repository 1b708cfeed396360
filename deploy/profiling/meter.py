"""Measures points on a running engine: wall clock around what is asked of it, nothing modelled.

A prefill is timed from the moment its prompts are handed to the engine until their one token has
come. Decode steps are timed between steps in which every request of the batch got a token.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from baton.clock import Clock
from baton.errors import BatonError, Reason
from deploy.profiling.points import Decode, Prefill
from engine.ports import Engine, LegEnd, Output, Step

Maker = Callable[[str, Sequence[int], int], Sequence[bytes]]
"""Makes a request: its name, its prompt, how many tokens it asks for."""
_ADMITTED_PER_STEP = 16
"""A batch is complete after so few steps per request, at least: their prompts are cached."""
_SETTLE_STEPS = 4


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the meter waits, in seconds."""

    silence_s: float
    """For an engine that says nothing."""
    repeat_s: float
    """A point that has taken longer is not repeated."""


@dataclass(frozen=True, slots=True)
class PrefillTimes:
    """What a prefill took. `cached` is what the engine found in its cache of each prompt."""

    seconds: tuple[float, ...]
    cached: int


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What a decode step took: the median over `steps`, at a mean context of so many tokens."""

    seconds: float
    context: int
    steps: int


@dataclass(slots=True)
class _Wave:
    """Requests that were sent together."""

    tokens: dict[str, int] = field(default_factory=dict)
    """Those that each has so far, by name."""
    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    cached: list[int] = field(default_factory=list)
    steps: list[tuple[float, int]] = field(default_factory=list)
    """Of each step in which all of them got a token: when, and the tokens they had before it."""


class Meter:
    """Drives one engine, alone. Belongs to one event loop."""

    def __init__(
        self, engine: Engine, make: Maker, clock: Clock, rng: random.Random, patience: Patience
    ) -> None:
        self._engine = engine
        self._make = make
        self._clock = clock
        self._rng = rng
        self._patience = patience
        self._names = 0

    async def prefill(self, point: Prefill) -> PrefillTimes:
        """Raises BatonError ENGINE_FAILED for an engine that is dead or silent."""
        seconds, cached = [], []
        enough_at = self._clock.now() + self._patience.repeat_s
        for repeat in range(point.repeats):
            if repeat and self._clock.now() > enough_at:
                break
            prefixes = [self._tokens(point.cached) for _ in range(point.prompts)]
            if point.cached:
                await self._ask(prefixes, 1)
            prompts = [prefix + self._tokens(point.new) for prefix in prefixes]
            began = self._clock.now()
            wave = await self._ask(prompts, 1)
            seconds.append(self._clock.now() - began)
            cached += wave.cached
        return PrefillTimes(tuple(sorted(seconds)), round(statistics.median(cached)))

    async def decode(self, point: Decode) -> StepTimes | None:
        """None where the batch never ran as a whole. Raises BatonError as `prefill` does."""
        prompts = [self._tokens(point.context) for _ in range(point.batch)]
        await self._ask(prompts, 1)
        until_all = _SETTLE_STEPS + -(-point.batch // _ADMITTED_PER_STEP)
        more = [[*prompt, *self._tokens(1)] for prompt in prompts]
        wave = await self._ask(more, point.steps + until_all)
        if len(wave.steps) < 2:
            return None
        gaps = [b - a for (a, _), (b, _) in pairwise(wave.steps)]
        tokens = statistics.fmean(tokens for _, tokens in wave.steps[1:])
        return StepTimes(statistics.median(gaps), round(tokens / point.batch), len(gaps))

    async def warm(self, tokens: int) -> None:
        """What an engine does for the first time takes longer."""
        for _ in range(2):
            await self._ask([self._tokens(tokens)], 4)

    async def _ask(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> _Wave:
        wave = _Wave()
        for prompt in prompts:
            self._names += 1
            name = f"profile-{self._names}"
            wave.tokens[name] = len(prompt)
            payload = self._make(name, prompt, max_tokens)
            await self._engine.add(self._engine.decode_request(payload, name, None))
        while len(wave.ended) < len(wave.tokens):
            self._take(wave, await self._step())
        return wave

    def _take(self, wave: _Wave, step: Step) -> None:
        mine = [output for output in step.outputs if output.request_id in wave.tokens]
        if len(mine) == len(wave.tokens):
            wave.steps.append((self._clock.now(), sum(wave.tokens.values())))
        for output in mine:
            self._count(wave, output)

    def _count(self, wave: _Wave, output: Output) -> None:
        name = output.request_id
        if name not in wave.begun:
            wave.begun.add(name)
            wave.cached.append(self._engine.cached_tokens(output))
        wave.tokens[name] += 1
        if (end := self._engine.ended(output)) is LegEnd.DONE:
            wave.ended.add(name)
        elif end is not None:
            raise BatonError(Reason.ENGINE_FAILED, f"the engine ended a request: {end.value}")

    async def _step(self) -> Step:
        try:
            async with asyncio.timeout(self._patience.silence_s):
                return await self._engine.step()
        except TimeoutError:
            raise BatonError(
                Reason.ENGINE_FAILED,
                f"the engine said nothing for {self._patience.silence_s:g} s",
            ) from None

    def _tokens(self, count: int) -> list[int]:
        vocabulary = self._engine.facts.vocabulary or 1000
        return self._rng.choices(range(min(10, vocabulary - 1), vocabulary), k=count)
