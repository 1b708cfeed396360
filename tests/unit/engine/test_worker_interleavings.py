"""Whatever happens in whatever order, every leg ends once towards its link and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from baton.errors import BatonError, Reason
from baton.wire import worker_pb2 as wire
from engine.link import Link
from engine.ports import LegEnd, Step
from tests.fakes.engine import FakeOutput
from tests.fakes.worker import House, decode, prefill, solo

KINDS = {"s": solo, "p": prefill, "d": decode}


class WorkerMachine(RuleBasedStateMachine):
    """A worker and what each link was told, against a plain account of open legs."""

    links = Bundle("links")
    legs = Bundle("legs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.house = House()
        self.count = 0
        self.open: dict[str, Link] = {}
        self.silent: set[str] = set()
        """Legs whose router took them back: they end without a word."""
        self.told: dict[str, int] = {}
        self.queues: list[Link] = []

    def await_(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    @rule(target=links)
    def connect(self) -> Link:
        link = self.house.worker.open_link("r")
        self.queues.append(link)
        return link

    @rule(target=legs, link=links, kind=st.sampled_from("spd"), tokens=st.integers(0, 1100))
    def submit(self, link: Link, kind: str, tokens: int) -> str:
        self.count += 1
        leg_id = f"l{self.count}.0.{kind}"
        self.open[leg_id] = link
        self.await_(self.house.worker.submit(link, KINDS[kind](leg_id, prompt_tokens=tokens)))
        self.listen()
        return leg_id

    @rule(link=links, leg_id=legs)
    def submit_again(self, link: Link, leg_id: str) -> None:
        if leg_id in self.open:
            before = self.house.worker.legs
            self.await_(self.house.worker.submit(link, solo(leg_id)))
            assert self.house.worker.legs == before
            self.hear_refusal(link, leg_id)

    def hear_refusal(self, link: Link, leg_id: str) -> None:
        frames = [link.frames.get_nowait() for _ in range(link.frames.qsize())]
        assert [e.leg_id for f in frames if f for e in f.ended] == [leg_id]

    @rule(
        leg_id=legs,
        end=st.sampled_from([None, LegEnd.DONE, LegEnd.FAILED, LegEnd.ABORTED]),
        kv=st.sampled_from([None, {"blocks": [1]}]),
    )
    def step(self, leg_id: str, end: LegEnd | None, kv: dict[str, Any] | None) -> None:
        self.house.clock.advance(0.1)
        link = self.open.get(leg_id)
        self.house.worker._pass_on(Step([FakeOutput(leg_id, 1, end, kv)]))
        self.listen(leg_id if end is LegEnd.DONE and link and not leg_id.endswith("p") else None)

    @rule(link=links, number=st.integers(1, 30), hold_s=st.floats(allow_nan=True))
    def ask(self, link: Link, number: int, hold_s: float) -> None:
        leg_id = f"l{number}.0.s"
        probe = wire.Probe(leg_id=leg_id, prompt_tokens=number * 40, hold_s=hold_s)
        self.house.worker.probe(link, probe)
        answers = [a.leg_id for a in self.answers(link)]
        assert answers == ([leg_id] if hold_s >= 0 else [])

    @staticmethod
    def answers(link: Link) -> list[wire.Answer]:
        frames = [link.frames.get_nowait() for _ in range(link.frames.qsize())]
        return [a for f in frames if f for a in f.answers]

    @rule(ids=st.lists(legs, max_size=4), link=links)
    def abort(self, ids: list[str], link: Link) -> None:
        self.await_(self.house.worker.abort(link, ids))
        self.take_back([i for i in ids if self.open.get(i) is link])

    @rule(link=consumes(links))
    def close(self, link: Link) -> None:
        self.await_(self.house.worker.close_link(link))
        self.take_back([i for i, owner in self.open.items() if owner is link])

    def take_back(self, ids: list[str]) -> None:
        for leg_id in set(ids):
            self.silent.add(leg_id)
            del self.open[leg_id]
        self.listen()

    @precondition(lambda self: self.count > 3)
    @rule()
    def drain(self) -> None:
        self.await_(self.house.worker.drain(0))
        self.listen()
        assert not self.open

    @precondition(lambda self: self.count > 3)
    @rule()
    def fail(self) -> None:
        self.house.worker.fail(BatonError(Reason.ENGINE_FAILED, "dead"))
        self.listen()
        assert not self.open

    @rule(seconds=st.floats(0, 70))
    def wait(self, seconds: float) -> None:
        self.house.clock.advance(seconds)
        self.house.worker.heartbeat()
        self.listen()

    def listen(self, delivered: str | None = None) -> None:
        """Reads every frame and closes the account of legs that ended in it.

        `delivered` is a leg whose last token has to be in one of them.
        """
        tokens: list[bytes] = []
        for link in self.queues:
            for _ in range(link.frames.qsize()):
                frame = link.frames.get_nowait()
                assert frame is not None
                tokens += frame.outputs
                for leg_id in self.ended_in(frame):
                    assert self.open.pop(leg_id) is link
                    self.told[leg_id] = self.told.get(leg_id, 0) + 1
        if delivered is not None:
            assert tokens == [f"{delivered}=1".encode()]
            del self.open[delivered]
            self.told[delivered] = self.told.get(delivered, 0) + 1

    @staticmethod
    def ended_in(frame: wire.StepFrame) -> list[str]:
        return [e.leg_id for e in frame.ended] + [p.leg_id for p in frame.prefilled if p.handed]

    @invariant()
    def accounts_agree(self) -> None:
        assert set(self.open) == set(self.house.worker._legs)
        assert set(self.told.values()) <= {1}
        assert not self.told.keys() & self.silent

    @invariant()
    def the_tally_counts_what_is_there(self) -> None:
        tally, legs = self.house.worker.tally, self.house.worker._legs.values()
        assert tally.running == sum(leg.had_output for leg in legs)
        assert tally.waiting == sum(not leg.had_output for leg in legs)
        queued = sum(leg.prompt_tokens for leg in legs if not leg.had_output)
        assert tally.queued_prompt_tokens == queued
        ended = tally.finished + tally.aborted + tally.failed
        assert tally.submitted == ended + self.house.worker.legs

    @invariant()
    def the_queue_is_what_waits_for_its_prompt(self) -> None:
        legs = self.house.worker._legs.items()
        waiting = {i for i, leg in legs if leg.role.computes_prompt and not leg.had_output}
        assert waiting == self.house.worker.outlook._backlog._legs.keys()
        assert self.house.worker.load().queue_s >= 0

    def teardown(self) -> None:
        for link in self.queues:
            self.await_(self.house.worker.close_link(link))
        assert self.house.worker.load().queue_s == 0
        assert self.house.worker.outlook.holdings._views == []
        tally = self.house.worker.tally
        assert self.house.worker.legs == 0
        assert (tally.running, tally.waiting, tally.queued_prompt_tokens) == (0, 0, 0)
        assert self.house.worker._idle.is_set()
        self.loop.close()


TestWorkerMachine = WorkerMachine.TestCase
TestWorkerMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
