"""Runs planned requests against the workers, and books how each one ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from baton.errors import Reason
from baton.tasks import Tasks
from baton.wire import worker_pb2 as wire
from benchmarks.legs import Leg, LegEndedError, encoded
from benchmarks.oracle import Verdict, judge
from benchmarks.soak_faults import ticket_name
from benchmarks.soak_ledger import Ledger
from benchmarks.soak_plan import Ending, Planned, Way
from benchmarks.soak_questions import Known
from benchmarks.soak_workers import Crew, Soaked

HANG_S = 30.0
"""No request may take longer, whatever happened to it."""
_REASONS = frozenset(reason.value for reason in Reason)
_KINDS = {"p": wire.LEG_PREFILL, "d": wire.LEG_DECODE, "s": wire.LEG_SOLO}


@dataclass
class Sent:
    """One leg on its worker."""

    worker: Soaked
    leg: Leg

    async def abort(self) -> None:
        """Take it back; a worker that is gone has no leg left."""
        if self.worker.up:
            await self.worker.link.abort(self.leg)


@dataclass
class Both:
    """The legs of one request. A solo one has no prefill leg."""

    decode: Sent
    prefill: Sent | None = None

    async def abort(self) -> None:
        """Take the request back."""
        for sent in filter(None, (self.prefill, self.decode)):
            await sent.abort()


@dataclass
class Tally:
    """How requests ended."""

    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    planned: Counter[str] = field(default_factory=Counter)
    """Faults that were planned, whether or not the request lived to see them."""
    wrong: list[int] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    """Legs that gave a whole answer."""
    ties: int = 0
    stories: list[str] = field(default_factory=list)
    """What must not happen, for people."""


class Driver:
    """One router with many users."""

    def __init__(self, crew: Crew, seed: int, known: list[Known]) -> None:
        self._crew = crew
        self._seed = seed
        self._known = known
        self.tally = Tally()
        self.ledger = Ledger()

    async def ask(self, planned: Planned) -> None:
        """Run one request to its end, and book it."""
        both: Both | None = None
        self.tally.planned[planned.ending.value] += 1
        try:
            async with asyncio.timeout(HANG_S):
                both = await self.submit(planned)
                end = await self._until_over(planned, both)
        except TimeoutError:
            end = "hung"
            self.tally.stories.append(f"request {planned.number} hung: {planned}")
        self.tally.ends[end] += 1
        if both is not None:
            await self._leave(both, plain=planned.is_plain_abort and end != "finished")

    async def _leave(self, both: Both, *, plain: bool) -> None:
        """Nothing of a request stays behind it: what a router does at its end."""
        now = time.monotonic()
        await both.abort()
        for sent in filter(None, (both.prefill, both.decode)):
            self.ledger.owes(sent.worker, sent.leg.leg_id, now, plain=plain)

    # -- sending

    async def submit(self, planned: Planned, prefill: Soaked | None = None) -> Both:
        """Send the legs."""
        decode = self._crew.decode
        if planned.way is Way.SOLO_DECODE:
            return Both(await self._leg(planned, "s", decode, None))
        prefill = prefill or self._crew.next_prefill()
        if planned.way is Way.SOLO_PREFILL:
            return Both(await self._leg(planned, "s", prefill, None))
        return await self._both(planned, prefill, decode)

    async def _both(self, planned: Planned, prefill: Soaked, decode: Soaked) -> Both:
        ends = [("p", prefill, decode), ("d", decode, prefill)]
        sent = {}
        for letter, worker, peer in ends if planned.gap_s >= 0 else reversed(ends):
            sent[letter] = await self._leg(planned, letter, worker, peer)
            await asyncio.sleep(abs(planned.gap_s) * (len(sent) == 1))
        return Both(sent["d"], sent["p"])

    async def _leg(
        self, planned: Planned, letter: str, worker: Soaked, peer: Soaked | None
    ) -> Sent:
        question = self._known[planned.question].question
        name = ticket_name(self._seed, planned.number, planned.spoil)
        endpoint = peer.started.info.transfer_endpoint if peer is not None else b""
        submit = wire.Submit(
            leg_id=f"{name}0.{letter}",
            kind=_KINDS[letter],
            request=encoded(question.prompt, question.max_tokens, planned.salt),
            ticket=wire.Ticket(ticket_id=name, epoch=0, deadline_s=HANG_S, peer=endpoint),
            prompt_tokens=len(question.prompt),
        )
        return Sent(worker, await worker.link.submit(submit))

    # -- waiting

    async def _until_over(self, planned: Planned, both: Both) -> str:
        async with Tasks("request") as tasks:
            answer = tasks.spawn(self.answer(planned, both), "answer")
            if planned.ending is not Ending.WAITED:
                await asyncio.wait([answer], timeout=planned.after_s)
            if answer.done():
                return answer.result()
            return await self._take_back(planned.ending, both, answer)

    async def _take_back(self, ending: Ending, both: Both, answer: asyncio.Task[str]) -> str:
        """End it as planned, before it has been answered."""
        match ending:
            case Ending.CANCEL_BOTH:
                return "cancelled"
            case Ending.DEADLINE:
                return "deadline"
            case Ending.CANCEL_DECODE:
                await both.decode.abort()
                return await self._prefill_alone(both)
            case Ending.CANCEL_PREFILL if both.prefill is not None:
                await both.prefill.abort()
        return await answer

    async def _prefill_alone(self, both: Both) -> str:
        """Prefill ends well or not, but it ends, although nobody takes what it computes."""
        if both.prefill is not None:
            try:
                await both.prefill.leg.next(wire.Prefilled, HANG_S)
            except LegEndedError as error:
                return self._ended(both, error)
        return "cancelled"

    async def answer(self, planned: Planned, both: Both) -> str:
        """Wait for the answer, and compare it."""
        try:
            tokens = await both.decode.leg.tokens()
        except LegEndedError as error:
            return self._ended(both, error)
        self.tally.answered.add(both.decode.leg.leg_id)
        answer = self._known[planned.question].answer
        verdict = judge(answer, tokens)
        self.tally.ties += verdict is Verdict.TIE
        if verdict is Verdict.WRONG:
            self.tally.wrong.append(planned.number)
            self.tally.stories.append(f"wrong: {planned}: {tokens}, not {answer.tokens}")
        return "finished"

    def _ended(self, both: Both, error: LegEndedError) -> str:
        reason = error.ended.reason
        self.tally.reasons[reason] += 1
        if reason in _REASONS:
            return "typed_error"
        self.tally.stories.append(f"untyped: {both.decode.leg.leg_id}: {error}")
        return "untyped"


async def many(driver: Driver, planned: Iterator[Planned], count: int, users: int) -> None:
    """So many requests, by users who each ask one after the other."""
    left = islice(planned, count)

    async def user() -> None:
        for one in left:
            await driver.ask(one)

    await asyncio.gather(*(user() for _ in range(users)))
