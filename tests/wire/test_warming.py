"""A new worker's first requests, over real sockets and fake engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

import engine.warming as under_test
from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from baton.messages import Dispatch, Role, WorkerInfo
from engine.warming import Warming
from tests.fakes.engine import broken, last
from tests.fakes.handoff import FakeHandoff
from tests.fakes.worker import info
from tests.wire.served import Served, until

KV = {"blocks": [1]}


class House(Served):
    """A worker that answers each leg as soon as its engine has it."""

    name = "decode-0"
    answers = 100
    """Legs that it answers."""
    failing = False

    async def start(self) -> None:
        await super().start()
        self._answers = asyncio.ensure_future(self._answer())

    async def stop(self) -> None:
        self._answers.cancel()
        await super().stop()

    async def _answer(self) -> None:
        done = 0
        while True:
            await asyncio.sleep(0.002)
            while len(self.engine.added) > done and done < self.answers:
                leg = self.engine.added[done].request_id
                done += 1
                self.engine.emit(broken(leg) if self.failing else last(leg, kv_params=KV))

    def facts(self, dispatch: Dispatch = Dispatch.SEQUENTIAL) -> WorkerInfo:
        return replace(
            info("digest"),
            worker_id=WorkerId(self.name),
            address=f"127.0.0.1:{self.port}",
            dispatch=dispatch,
            transfer_endpoint=self.name.encode(),
        )

    @property
    def legs_seen(self) -> list[tuple[str, str]]:
        return [(request.kind, request.request_id) for request in self.engine.added]


@pytest_asyncio.fixture
async def houses() -> AsyncIterator[tuple[House, House]]:
    new, peer = House(), House()
    peer.name = "prefill-0"
    await new.start()
    await peer.start()
    yield new, peer
    for house in (new, peer):
        await house.until(legs=0, links=0)
        await house.stop()


def warming(house: House, dispatch: Dispatch = Dispatch.SEQUENTIAL) -> Warming:
    return Warming(house.facts(dispatch), lambda name: [name.encode()], 17)


@pytest.fixture
def pushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connector sends what it has while it is computed."""
    for name in ("prefill_params", "decode_params"):
        monkeypatch.setattr(FakeHandoff, name, lambda _, ticket: {"peer": ticket.peer})


async def test_it_serves_one_alone_and_one_with_each_peer(houses: tuple[House, House]) -> None:
    new, peer = houses
    assert await warming(new).run(Role.DECODE, [peer.facts()], 5.0) == ""
    own, met = "warm-decode-0-3", "warm-prefill-0-3-decode-0-3-by-decode-0"
    assert new.legs_seen == [
        ("decode", f"{own}.0.s"),
        ("decode", f"{own}.1.s"),
        ("decode", f"{met}.0.d"),
    ]
    assert peer.legs_seen == [("prefill", f"{met}.0.p")]
    assert peer.engine.added[0].kv_params == {"open": met}
    # Nobody's cache may make a handover needless.
    assert {*new.engine.added[2].payload, *peer.engine.added[0].payload} == {met.encode()}
    assert new.engine.added[2].kv_params == {"claim": b'{"blocks": [1]}'}


async def test_as_a_prefill_worker_it_is_the_one_that_sends(houses: tuple[House, House]) -> None:
    new, peer = houses
    assert await warming(new).run(Role.PREFILL, [peer.facts()], 5.0) == ""
    assert [kind for kind, _ in new.legs_seen] == ["decode", "decode", "prefill"]
    assert [kind for kind, _ in peer.legs_seen] == ["decode"]


async def test_both_ends_start_together_and_know_each_other(
    houses: tuple[House, House], pushing: None
) -> None:
    new, peer = houses
    # Neither leg may wait for the other.
    new.answers, peer.answers = 2, 0
    both = Dispatch.CONCURRENT
    run = asyncio.ensure_future(warming(new, both).run(Role.DECODE, [peer.facts(both)], 5.0))
    await until(lambda: len(new.engine.added) == 3 and len(peer.engine.added) == 1)
    new.answers = peer.answers = 100
    assert await run == ""
    assert new.engine.added[2].kv_params == {"peer": b"prefill-0"}
    assert peer.engine.added[0].kv_params == {"peer": b"decode-0"}


async def test_a_silent_peer_costs_a_bounded_time(
    houses: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, peer = houses
    monkeypatch.setattr(under_test, "PEER_S", 0.1)
    peer.answers = 0
    wrong = await warming(new).run(Role.DECODE, [peer.facts(), peer.facts()], 5.0)
    assert wrong == "; ".join(["no handover with prefill-0 within 0.1 s"] * 2)


async def test_all_of_it_has_a_time_too(houses: tuple[House, House]) -> None:
    new, peer = houses
    peer.answers = 0
    wrong = await warming(new).run(Role.DECODE, [peer.facts()], 0.1)
    assert wrong == "first requests took more than 0.1 s"


async def test_who_cannot_be_met_is_named_and_the_next_is_met(houses: tuple[House, House]) -> None:
    new, peer = houses
    nobody = replace(peer.facts(), worker_id=WorkerId("prefill-7"), address="127.0.0.1:1")
    other = replace(peer.facts(), worker_id=WorkerId("prefill-8"), config_digest="other")
    wrong = await warming(new).run(Role.DECODE, [nobody, other, peer.facts()], 5.0)
    assert wrong.startswith("no handover with prefill-7: the link broke:")
    assert "no handover with prefill-8: the link broke: config digest other" in wrong
    assert len(peer.legs_seen) == 1


async def test_a_leg_that_fails_ends_the_other(houses: tuple[House, House], pushing: None) -> None:
    new, peer = houses
    peer.failing, new.answers = True, 2
    wrong = await warming(new, Dispatch.CONCURRENT).run(
        Role.DECODE, [peer.facts(Dispatch.CONCURRENT)], 5.0
    )
    assert wrong == "no handover with prefill-0: prefill was failed by the engine"


async def test_an_engine_that_serves_nobody_meets_nobody(houses: tuple[House, House]) -> None:
    new, peer = houses
    new.failing = True
    wrong = await warming(new).run(Role.DECODE, [peer.facts()], 5.0)
    assert wrong == "first request: the request was failed by the engine"
    assert peer.legs_seen == []


async def test_users_are_not_waited_for(houses: tuple[House, House]) -> None:
    new, peer = houses
    peer.worker.outlook.check = _full
    wrong = await warming(new).run(Role.DECODE, [peer.facts()], 5.0)
    assert wrong == "no handover with prefill-0: 1.0 s at most"


def _full(queue_max_s: float) -> None:
    raise BatonError(Reason.WORKER_FULL, f"{queue_max_s} s at most")
