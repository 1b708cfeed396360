"""What a meter finds is what the engine does."""

import asyncio
from dataclasses import replace

import pytest

from baton.errors import BatonError, Reason
from deploy.profiling.points import Decode, Prefill
from engine.ports import LegEnd, Step
from tests.fakes.engine import FakeOutput
from tests.unit.deploy.profiling.engines import FACTS, TIMES, ClockedEngine, meter


async def test_a_prefill_takes_what_the_engine_takes() -> None:
    found = await meter(ClockedEngine()).prefill(Prefill(4096))
    assert found.cached == 0
    assert found.seconds == pytest.approx([TIMES.prefill_s(4096)] * 4)


async def test_a_cached_prefix_is_not_computed_again() -> None:
    engine = ClockedEngine()
    found = await meter(engine).prefill(Prefill(2048, 4096, repeats=2))
    assert found.cached == 4096
    assert found.seconds == pytest.approx([TIMES.prefill_s(2048, 4096)] * 2)
    assert engine.asked_for == 4


async def test_what_takes_long_is_not_repeated() -> None:
    one_s = TIMES.prefill_s(4096)
    found = await meter(ClockedEngine(), repeat_s=1.5 * one_s).prefill(Prefill(4096))
    assert len(found.seconds) == 2
    found = await meter(ClockedEngine(), repeat_s=0.5 * one_s).prefill(Prefill(4096))
    assert len(found.seconds) == 1


async def test_prompts_together() -> None:
    found = await meter(ClockedEngine()).prefill(Prefill(512, prompts=8, repeats=1))
    expected = TIMES.iteration_s(8 * TIMES.chunk_s(512, 0), 0, 0)
    assert found.seconds == pytest.approx([expected])


async def test_decode_steps_are_those_of_the_whole_batch() -> None:
    engine = ClockedEngine()
    found = await meter(engine).decode(Decode(16, 2048, 32))
    # Prompts are computed first, so that all of them begin to decode together.
    assert engine.asked_for == 32
    assert found is not None
    assert found.steps >= 32
    assert found.seconds == pytest.approx(TIMES.step_s(16, 16 * found.context), rel=1e-3)
    # The prompt, the token after it, and half of those that the steps added.
    assert 2049 + 16 <= found.context <= 2049 + 24


async def test_a_batch_that_never_runs_as_a_whole() -> None:
    class Narrow(ClockedEngine):
        async def step(self) -> Step:
            held = self.waiting[3:]
            self.waiting = self.waiting[:3] if not self.running else []
            self.held = [*getattr(self, "held", []), *held]
            step = await super().step()
            if not self.running:
                self.waiting, self.held = self.held, []
            return step

    assert await meter(Narrow()).decode(Decode(4, 256, 8)) is None


async def test_a_silent_engine_is_given_up() -> None:
    class Silent(ClockedEngine):
        async def step(self) -> Step:
            return await asyncio.Future()

    with pytest.raises(BatonError, match=r"nothing for 0\.01 s") as given_up:
        await meter(Silent(), 0.01).prefill(Prefill(64))
    assert given_up.value.reason is Reason.ENGINE_FAILED


async def test_a_request_that_fails_is_no_measurement() -> None:
    class Failing(ClockedEngine):
        async def step(self) -> Step:
            return Step([FakeOutput(self.waiting[0].name, end=LegEnd.FAILED)])

    with pytest.raises(BatonError, match="failed"):
        await meter(Failing()).prefill(Prefill(64))


async def test_a_small_vocabulary() -> None:
    await meter(ClockedEngine(facts=replace(FACTS, vocabulary=3))).prefill(Prefill(64))
