"""Who asks during a run, what, and how each request ended.

All are greedy, so that any worker could go on with them. One is *lost* when it ended neither with
its whole answer nor with a typed error, when it was refused at the door while a decode worker
served, and when, once taken, it ended with a typed error while any worker served. *Hung* is one
that did not end in `HANG_S`, *wrong* one whose tokens are not those of an uninterrupted engine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from baton.messages import Role
from baton.tasks import Tasks
from benchmarks.faults_front import Front
from benchmarks.faults_result import Result
from benchmarks.faults_streams import Stream
from benchmarks.faults_workers import Crew
from benchmarks.legs import encoded
from benchmarks.oracle import Verdict, judge
from benchmarks.reference import Question
from benchmarks.soak_faults import UNSPOILT, Spoil, ticket_name
from benchmarks.soak_questions import Known, questions
from router.heart import Heart
from router.ports import EngineRequest

REQUEST_TIMEOUT_S = 25.0
HANG_S = 30.0
STREAM_TOKENS = 150
_STREAM_PROMPTS = (3, 5, 8)
"""Which of the short questions are asked for a long answer too."""
LONGS = 2


def all_questions() -> list[Question]:
    """Short ones, long prompts, then short prompts with long answers."""
    found = questions(LONGS)
    return found + [Question(found[n].prompt, STREAM_TOKENS) for n in _STREAM_PROMPTS]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Known answers by what they are good for."""

    short: list[Known]
    long: list[Known]
    stream: list[Known]


def sorted_out(known: list[Known]) -> Sorted:
    """As `all_questions` orders them."""
    streams = len(known) - len(_STREAM_PROMPTS)
    return Sorted(known[: streams - LONGS], known[streams - LONGS : streams], known[streams:])


@dataclass
class Asker:
    """Sends requests to a heart and books how they end."""

    heart: Heart
    front: Front
    crew: Crew
    result: Result
    numbers: count[int] = field(default_factory=count)
    spoilt: set[RequestId] = field(default_factory=set)

    def ask(self, tasks: Tasks, known: Known, spoil: Spoil = UNSPOILT) -> Stream:
        """Send one, and book it in the background."""
        number = next(self.numbers)
        stream = Stream(RequestId(f"{ticket_name(0, number, spoil)}x"))
        self.front.streams[stream.request_id] = stream
        self.result.requests += 1
        try:
            self.heart.submit(_request(stream.request_id, known.question, f"own {number}"))
        except BatonError as error:
            stream.refused = True
            stream.end(error)
        tasks.spawn(self._wait(stream, known), stream.request_id)
        return stream

    async def _wait(self, stream: Stream, known: Known) -> None:
        try:
            async with asyncio.timeout(HANG_S):
                await stream.over.wait()
        except TimeoutError:
            self._hung(stream)
        else:
            self._book(stream, known)
        del self.front.streams[stream.request_id]

    def _hung(self, stream: Stream) -> None:
        self.result.hung += 1
        self.result.tell(f"hung: {self.heart.story(stream.request_id)}")
        self.heart.abort([stream.request_id])
        stream.end()

    def _book(self, stream: Stream, known: Known) -> None:
        plans = self.heart.explain(stream.request_id)
        self.result.counts["handed_over"] += any(plan["prefill"] for plan in plans)
        self.result.counts["second_attempts"] += max(len(plans) - 1, 0)
        if stream.error is not None:
            self._failed(stream, stream.error)
            return
        self.result.finished += 1
        self.result.tokens += len(stream.tokens)
        verdict = judge(known.answer, stream.tokens)
        self.result.ties += verdict is Verdict.TIE
        if verdict is Verdict.WRONG:
            self.result.wrong += 1
            story = self.heart.story(stream.request_id)
            told = f"wrong: {stream.tokens}, not {known.answer.tokens}"
            self.result.tell(f"{told}\n{story}")

    def _failed(self, stream: Stream, error: BatonError) -> None:
        self.result.typed_errors[error.reason.value] += 1
        untyped = error.reason is Reason.INTERNAL
        role = Role.DECODE if stream.refused else None
        if untyped or self.crew.somebody_serves(role):
            self.result.lost += 1
            story = self.heart.story(stream.request_id)
            self.result.tell(f"lost: {error.reason}: {error.message}\n{story}")


def _request(request_id: RequestId, question: Question, salt: str) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        payload=tuple(encoded(question.prompt, question.max_tokens, salt)),
        prompt_tokens=len(question.prompt),
        max_tokens=question.max_tokens,
        tokens=question.prompt,
        cache_salt=salt,
    )


class Load:
    """Users who each ask one short question after the other; they can be made to wait."""

    def __init__(self, asker: Asker, known: list[Known], users: int, tasks: Tasks) -> None:
        self._asker = asker
        self._known = known
        self._tasks = tasks
        self._open = asyncio.Event()
        self._over = False
        self._users = [tasks.spawn(self._user(n), f"user {n}") for n in range(users)]

    async def _user(self, first: int) -> None:
        number = first
        while not self._over:
            await self._open.wait()
            known = self._known[number % len(self._known)]
            await self._asker.ask(self._tasks, known).over.wait()
            number += 5
            # A refusal comes at once: a client waits a little before the next try.
            await asyncio.sleep(0.02)

    def pause(self) -> None:
        """Ask nothing new."""
        self._open.clear()

    def resume(self) -> None:
        """Go on asking."""
        self._open.set()

    async def end(self) -> None:
        """Ask nothing new, and wait for what was asked."""
        self._over = True
        self.resume()
        await asyncio.gather(*self._users)
