"""One leg of a request in one engine, and the record of the whole request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from baton.ids import WorkerId
from simulator.kv_pool import KvPool
from simulator.traces.request import BLOCK_TOKENS, Request


class Kind(Enum):
    """What an engine does for a request."""

    PREFILL = "prefill"
    DECODE = "decode"
    SOLO = "solo"


class End(Enum):
    """How a request's life ended."""

    FINISHED = "finished"
    TOO_LONG = "too long for the KV memory of a worker"
    REFUSED = "refused by its router"
    LOST = "its workers were lost too often"
    UNPLACED = "no router placed it before the end"


@dataclass(slots=True)
class Record:
    """What happened to one request; times in seconds of the simulation, -1 = not yet.

    The parts of TTFT are the distances between arrival, `started_s`, `computed_s`, `landed_s`,
    `joined_s` and `first_s`; after a lost attempt they describe the last one, and the time before
    it counts as queue.
    """

    request: Request
    router: int = 0
    prefill: WorkerId | None = None
    decode: WorkerId | None = None
    reason: str = ""
    started_s: float = -1.0
    computed_s: float = -1.0
    landed_s: float = -1.0
    joined_s: float = -1.0
    first_s: float = -1.0
    finished_s: float = -1.0
    hit_tokens: int = 0
    moved_tokens: int = 0
    attempts: int = 0
    preemptions: int = 0
    end: End | None = None

    @property
    def ttft_s(self) -> float:
        """From arrival to the first token."""
        return self.first_s - self.request.arrival_s

    @property
    def tpot_s(self) -> float:
        """Mean time between tokens; 0 for an answer of one."""
        gaps = self.request.output_tokens - 1
        return (self.finished_s - self.first_s) / gaps if gaps else 0.0

    @property
    def parts_s(self) -> tuple[float, float, float, float, float]:
        """TTFT in parts: queue, prefill, exposed transfer, decode queue, first step."""
        return (
            self.started_s - self.request.arrival_s,
            self.computed_s - self.started_s,
            self.landed_s - self.computed_s,
            self.joined_s - self.landed_s,
            self.first_s - self.joined_s,
        )


class Job:
    """One leg. The engine that has it changes it; `flight` is for its owner to find the request."""

    __slots__ = (
        "again",
        "answer_left",
        "done",
        "dropped",
        "finish_step",
        "flight",
        "join_step",
        "keys",
        "kind",
        "new_tokens",
        "number",
        "private",
        "prompt",
        "published",
        "record",
        "work_s",
    )

    def __init__(self, record: Record, kind: Kind, generated: int, flight: object = None) -> None:
        request = record.request
        self.record = record
        self.number = request.number
        self.kind = kind
        self.flight = flight
        # A resumed request prefills what it had generated, too; those tokens have no known keys.
        self.prompt = request.input_tokens + generated
        self.answer_left = request.output_tokens - generated
        self.keys: Sequence[int] = request.blocks[: request.whole_blocks]
        self.done = 0
        self.published = 0
        self.private = 0
        self.new_tokens = 0
        """Tokens still to be computed, as far as known."""
        self.work_s = 0.0
        """The variable time that they take."""
        self.join_step = -1
        self.finish_step = -1
        self.dropped = False
        self.again = False
        """It had to give way, and its prompt is computed once more."""

    @property
    def generated(self) -> int:
        """Tokens of the answer that exist."""
        return self.record.request.output_tokens - self.answer_left

    def hold(self, pool: KvPool, headroom: int) -> bool:
        """Takes memory for the whole prompt, cached blocks included; False when there is no room.

        An empty engine takes whatever fits at all.
        """
        found = self.keys[: pool.match(self.keys)]
        private = self.prompt - len(found) * BLOCK_TOKENS
        if not pool.fits(found, private, headroom if pool.used else 0):
            return False
        pool.take(found, private)
        self.published, self.private = len(found), private
        return True

    def publish(self, pool: KvPool, computed: int) -> None:
        """Whole blocks among the first `computed` tokens can be found from now on."""
        whole = min(len(self.keys), computed // BLOCK_TOKENS)
        if whole > self.published:
            pool.publish(self.keys[self.published : whole])
            self.private -= (whole - self.published) * BLOCK_TOKENS
            self.published = whole

    def free(self, pool: KvPool) -> None:
        """Gives everything back; a second time does nothing."""
        pool.release(self.keys[: self.published], self.private)
        self.published = self.private = 0


class Listener(Protocol):
    """Who is told. Calls come at the simulated time they speak of."""

    def started(self, job: Job, now: float) -> None:
        """A prompt has its memory and is being computed; `done` tokens were cached."""

    def progressed(self, job: Job, now: float) -> None:
        """A chunk of a PREFILL prompt has been computed, not the last one."""

    def computed(self, job: Job, now: float) -> None:
        """A prompt has been computed. The memory of a PREFILL job stays until `release`."""

    def finished(self, job: Job, now: float) -> None:
        """An answer is complete. Its memory is free."""
