"""Answers that clients read from a worker: who may take one, and when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from baton.errors import BatonError, Reason
from baton.wire import worker_pb2 as wire
from engine.direct import DEADLINE_SLACK_S, TAKEN_WITHIN_S, TOLD_EVERY_S, DirectStream
from engine.link import Link
from engine.ports import Step
from engine.worker import Worker
from tests.fakes.engine import FakeOutput, FakeRequest, last, token
from tests.fakes.worker import LIMITS, House, roles, solo

GRANT = b"g" * 32
FAULT = -1
"""A token whose text raises."""


class FakeText:
    """Its text is nothing; it stops at token 99."""

    logprobs = None

    def __init__(self, request: FakeRequest) -> None:
        self.request = request
        self.untold: list[int] = []
        self.error: BatonError | None = None

    def add(self, output: Any) -> bool:
        if output.token == FAULT:
            raise IndexError("no such token")
        self.untold.append(output.token)
        return output.token == 99

    def told(self, output: Any, *, stopped: bool) -> Any:
        told, self.untold = FakeOutput(output.request_id, sum(self.untold)), []
        return told

    def fail(self, error: BatonError) -> None:
        self.error = error

    async def next(self) -> Any:
        raise NotImplementedError


class Home(House):
    """A worker that serves clients, and a router's link to it."""

    def __init__(self, texts: Any = FakeText) -> None:
        super().__init__()
        self.worker = Worker(self.engine, roles(), LIMITS, self.clock, self.failures.append, texts)
        self.link: Link = self.worker.open_link("r")

    async def submit(self, leg_id: str, grant: bytes = GRANT, deadline_s: float = 60.0) -> None:
        submit = solo(leg_id)
        submit.direct.CopyFrom(wire.Direct(grant=grant, deadline_s=deadline_s))
        await self.worker.submit(self.link, submit)

    def step(self, *outputs: FakeOutput) -> list[str]:
        return list(self.worker._pass_on(Step(outputs)))

    def told(self) -> list[Any]:
        """Outputs and ends that have gone to the router since the last call."""
        found: list[Any] = []
        while not self.link.frames.empty():
            frame = self.link.frames.get_nowait()
            found += [*frame.outputs, *((e.leg_id, e.reason) for e in frame.ended)]
        return found


@pytest.fixture
async def home() -> Home:
    return Home()


def taken(home: Home) -> DirectStream:
    return home.worker.direct.take(GRANT)


async def test_the_router_hears_of_the_beginning_and_of_the_end(home: Home) -> None:
    await home.submit("a")
    home.step(token("a", 1))
    assert home.told() == [b"a=1"]
    home.step(token("a", 2))
    home.step(token("a", 3))
    assert home.told() == []
    home.step(last("a", 4))
    assert home.told() == [b"a=9"]
    assert home.worker.legs == 1, "it is not read yet"
    stream = taken(home)
    await home.worker.direct.left(stream)
    assert home.worker.legs == 0
    assert home.told() == []


async def test_once_a_second_the_router_hears_of_all_tokens_until_then(home: Home) -> None:
    await home.submit("a")
    heard = []
    for value in (1, 2, 4, 8, 16):
        home.step(token("a", value))
        heard.append(home.told())
        home.clock.advance(TOLD_EVERY_S / 2)
    assert heard == [[b"a=1"], [], [b"a=6"], [], [b"a=24"]]


async def test_a_stop_text_ends_the_leg_in_the_engine_too(home: Home) -> None:
    await home.submit("a")
    assert home.step(token("a", 1)) == []
    assert home.step(token("a", 99)) == ["a"]
    assert home.told() == [b"a=1", b"a=99"]
    assert taken(home).over


async def test_the_engine_hears_of_it(home: Home) -> None:
    await home.submit("a")
    home.engine.emit(token("a", 99))
    home.engine.die()
    await home.worker.run()
    assert home.engine.aborted == ["a"]


async def test_a_worker_that_serves_nobody_refuses() -> None:
    home = Home(texts=None)
    await home.submit("a")
    assert home.told() == [("a", Reason.UNSUPPORTED.value)]


@pytest.mark.parametrize("grant", [b"", b"short", GRANT])
async def test_grants_are_long_and_of_one_leg(home: Home, grant: bytes) -> None:
    await home.submit("a")
    await home.submit("b", grant)
    assert home.told() == [("b", Reason.INVALID_REQUEST.value)]


async def test_a_fault_in_one_text_ends_that_leg_alone(home: Home) -> None:
    await home.submit("a")
    await home.submit("b", b"h" * 32)
    stream = taken(home)
    home.step(token("a", 1), token("b", 1))
    home.told()
    assert home.step(token("a", FAULT), last("b", 2)) == ["a"]
    assert home.told() == [b"b=2", ("a", Reason.INTERNAL.value)]
    assert isinstance(stream.text, FakeText)
    assert stream.text.error is not None
    assert (home.worker.tally.failed, home.worker.tally.finished) == (1, 1)
    assert home.failures == []


async def test_a_text_that_cannot_begin_is_refused() -> None:
    def broken(_request: Any) -> Any:
        raise LookupError("no such tokenizer")

    home = Home(texts=broken)
    await home.submit("a")
    assert home.told() == [("a", Reason.INTERNAL.value)]
    assert home.worker.legs == 0


async def test_a_grant_is_good_once(home: Home) -> None:
    await home.submit("a")
    taken(home)
    for grant in (GRANT, GRANT[:-1], b""):
        with pytest.raises(BatonError) as raised:
            home.worker.direct.take(grant)
        assert raised.value.reason is Reason.REQUEST_UNKNOWN


async def test_nobody_comes(home: Home) -> None:
    await home.submit("a")
    home.clock.advance(TAKEN_WITHIN_S + 1)
    await home.worker.direct.sweep()
    assert home.worker.legs == 1, "its first token is not there yet"
    home.step(token("a", 1))
    home.clock.advance(TAKEN_WITHIN_S + 1)
    await home.worker.direct.sweep()
    assert home.told() == [b"a=1", ("a", Reason.CANCELLED.value)]
    assert (home.worker.legs, home.engine.aborted) == (0, ["a"])


async def test_nobody_comes_for_a_whole_answer(home: Home) -> None:
    await home.submit("a")
    home.step(last("a", 1))
    home.clock.advance(TAKEN_WITHIN_S + 1)
    await home.worker.direct.sweep()
    assert home.told() == [b"a=1"]
    assert home.worker.legs == 0


async def test_whoever_leaves_ends_the_leg(home: Home) -> None:
    await home.submit("a")
    home.step(token("a", 1))
    home.told()
    await home.worker.direct.left(taken(home))
    assert home.told() == [("a", Reason.CANCELLED.value)]
    assert (home.worker.legs, home.engine.aborted) == (0, ["a"])


async def test_past_its_deadline_it_ends(home: Home) -> None:
    await home.submit("a", deadline_s=5)
    stream = taken(home)
    home.clock.advance(5)
    await home.worker.direct.sweep()
    assert home.told() == [], "that is for its router to tell"
    assert home.worker.direct.left_s(stream) == DEADLINE_SLACK_S
    home.clock.advance(DEADLINE_SLACK_S + 1)
    await home.worker.direct.sweep()
    assert home.told() == [("a", Reason.DEADLINE_EXCEEDED.value)]
    assert home.worker.direct.left_s(stream) == 0


@pytest.mark.parametrize("how", ["abort", "link", "engine", "cut"])
async def test_the_end_of_its_leg_is_told_to_the_reader(home: Home, how: str) -> None:
    await home.submit("a")
    home.step(token("a", 1))
    stream = taken(home)
    match how:
        case "abort":
            await home.worker.abort(home.link, ["a"])
        case "link":
            await home.worker.close_link(home.link)
        case "engine":
            home.worker.fail(BatonError(Reason.ENGINE_FAILED, "dead"))
        case "cut":
            assert await home.worker.drain(0.01) == 1
    assert isinstance(stream.text, FakeText)
    assert stream.text.error is not None
    assert stream.text.error.reason is Reason.WORKER_LOST
    await home.worker.direct.left(stream)
    assert home.worker.legs == 0


async def test_a_leg_that_the_engine_refuses_leaves_nothing(home: Home) -> None:
    home.engine.refuse_add = BatonError(Reason.ENGINE_FAILED, "no")
    await home.submit("a")
    assert home.told() == [("a", Reason.ENGINE_FAILED.value)]
    assert home.worker.legs == 0
    with pytest.raises(BatonError):
        taken(home)


async def test_a_drain_counts_the_answers_that_it_leaves_unread(home: Home) -> None:
    await home.submit("a")
    await home.submit("b", b"h" * 32)
    home.step(last("a", 1), token("b", 1))
    taken(home)
    assert home.worker.legs == 2
    assert await home.worker.drain(0.01) == 2


async def test_a_drain_waits_until_it_is_read(home: Home) -> None:
    await home.submit("a")
    stream = taken(home)
    draining = asyncio.ensure_future(home.worker.drain(5))
    await asyncio.sleep(0)
    home.step(last("a", 1))
    await asyncio.sleep(0.01)
    assert not draining.done()
    await home.worker.direct.left(stream)
    assert await draining == 0
