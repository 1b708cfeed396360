"""Steps on their way to front ends: what leaves together, and what never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import LogprobsLists

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from router import engine_link
from tests.wire import test_engine_link
from tests.wire.fakes import Script, encode
from tests.wire.front_end import FakeFrontEnd
from tests.wire.served import until
from tests.wire.test_engine_link import House

house = test_engine_link.house


async def test_logprobs_pass_however_large(house: House) -> None:
    house.heart.script = Script(hang=True, tokens=[1])
    front = await house.front()
    await front.ask("a")
    await until(lambda: len(house.links.open) == 1)
    buffers = with_large_logprobs("leg", 9)
    assert len(buffers) > 1, "not so large that it is sent beside"
    house.links.deliver(buffers, {"leg": RequestId("f0/a")})
    (got,) = (await front.step()).outputs
    assert (got.new_logprobs.logprob_token_ids == np.arange(400)).all()
    assert (got.new_logprobs.logprobs == -np.arange(400)).all()


def with_large_logprobs(name: str, token: int) -> list[bytes]:
    ids = np.arange(400, dtype=np.int32).reshape(1, 400)
    values = -np.arange(400, dtype=np.float32).reshape(1, 400)
    output = EngineCoreOutput(name, [token])
    output.new_logprobs = LogprobsLists(ids, values, np.array([1], dtype=np.int32), None)
    return encode(EngineCoreOutputs(outputs=[output]))


async def hung(house: House, *names: str) -> tuple[FakeFrontEnd, Callable[..., None]]:
    """A front end whose requests wait for what the test delivers: one step, a token for each."""
    house.heart.script = Script(hang=True, tokens=[1])
    front = await house.front()
    for name in names:
        await front.ask(name)
    await until(lambda: len(house.links.open) == len(names))

    def step(**tokens: int) -> None:
        outputs = [EngineCoreOutput(name, [token]) for name, token in tokens.items()]
        legs = {name: RequestId(f"f0/{name}") for name in names}
        house.links.deliver(encode(EngineCoreOutputs(outputs=outputs)), legs)

    return front, step


def said(step: EngineCoreOutputs) -> list[tuple[str, list[int]]]:
    return [(one.request_id, one.new_token_ids) for one in step.outputs]


async def test_steps_that_follow_closely_leave_together(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 0.2)
    front, step = await hung(house, "a", "b")
    step(a=1)
    assert said(await front.step()) == [("a", [1])], "nobody waits for a first token"
    began = asyncio.get_running_loop().time()
    step(a=2)
    step(a=3)
    assert front.silent()
    assert said(await front.step()) == [("a", [2, 3])]
    assert asyncio.get_running_loop().time() - began < 1
    step(a=4)
    await front.step()
    step(a=5)
    step(b=6)
    assert said(await front.step()) == [("a", [5]), ("b", [6])], "it takes along what waits"


async def test_slow_requests_do_not_wait_for_fast_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 0.5)
    front, step = await hung(house, "fast", "slow")
    step(slow=1)
    await front.step()
    await asyncio.sleep(0.6)
    step(fast=2)
    await front.step()
    step(fast=3)
    assert front.silent()
    began = asyncio.get_running_loop().time()
    step(slow=4)
    assert said(await front.step()) == [("fast", [3]), ("slow", [4])]
    assert asyncio.get_running_loop().time() - began < 0.4


async def test_a_step_after_a_pause_leaves_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 0.5)
    front, step = await hung(house, "a")
    step(a=1)
    await front.step()
    await asyncio.sleep(0.6)
    began = asyncio.get_running_loop().time()
    step(a=2)
    assert said(await front.step()) == [("a", [2])]
    assert asyncio.get_running_loop().time() - began < 0.4


async def test_what_fails_has_had_its_tokens(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 60.0)
    front, step = await hung(house, "a")
    step(a=1)
    step(a=2)
    house.links.fail(RequestId("f0/a"), BatonError(Reason.ENGINE_FAILED, "dead"))
    found = await front.answer("a")
    assert [one.new_token_ids for one in found] == [[1], [2], []]
    assert found[-1].finish_reason is FinishReason.ERROR
    house.heart.live.pop(RequestId("f0/a")).cancel()


async def test_buffers_beside_a_step_are_not_taken_for_those_of_an_earlier_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 60.0)
    front, step = await hung(house, "a")
    step(a=1)
    step(a=2)
    house.links.deliver(with_large_logprobs("a", 3), {"a": RequestId("f0/a")})
    steps = [await front.step() for _ in range(3)]
    assert [said(one) for one in steps] == [[("a", [1])], [("a", [2])], [("a", [3])]]
    assert steps[-1].outputs[0].new_logprobs is not None


async def test_one_that_is_lost_while_others_are_told_takes_nobody_along(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "GATHER_S", 60.0)
    lost, step = await hung(house, "a")
    other = await house.front("f1")
    await other.ask("b")
    await until(lambda: len(house.links.open) == 2)
    step(a=1)
    await lost.step()
    step(a=2)
    link = house.links._links["f0"]
    monkeypatch.setattr(link, "_send", lambda _frames: house.links.lose(link, "it reads nothing"))
    house.links.deliver(with_large_logprobs("leg", 3), {"leg": RequestId("f1/b")})
    assert said(await other.step()) == [("b", [3])]
    assert house.lost == ["f0"]
