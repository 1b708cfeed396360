"""Who leaves when, what the engines show of it, and what a run found. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

from benchmarks.faults_result import percentile

CHUNK_TOKENS = 128
"""An abort waits for the end of a step: 0.15 s on two slow cores, as long as on an accelerator with
a common chunk of a large model."""
PROMPT_TOKENS = (1000, 2400)
_WHOLE_PROMPT_TOKENS = (1000, 1200)
"""Of those that are computed to the end."""
ANSWER_TOKENS = 400
FREED_TARGET_S = 0.5
_FIRST_TOKEN, _LAST_TOKEN = 10, 4090
_TWO_ANSWERS_EACH = 8
"""Every so manieth client asks for two answers."""
_CROWD = 3
"""Clients that leave together: one computes, the others wait in the worker or the router."""


class Moment(StrEnum):
    """How far a request is."""

    ARRIVING = "arriving"
    """On its way to the engines: HTTP, tokens, the router."""
    QUEUED = "queued"
    FIRST_CHUNK = "first_chunk"
    LATER_CHUNK = "later_chunk"
    TRANSFER = "transfer"
    """The prompt is computed, and decode has no token yet."""
    ANSWERING = "answering"
    """Decode has tokens."""


_DECK = (
    *(Moment.ARRIVING,) * 5,
    *(Moment.QUEUED,) * 4,
    *(Moment.FIRST_CHUNK,) * 5,
    *(Moment.LATER_CHUNK,) * 4,
    *(Moment.TRANSFER,) * 1,
    *(Moment.ANSWERING,) * 1,
)
_LINGERS_S = {
    Moment.ARRIVING: 0.015,
    Moment.QUEUED: 0.1,
    Moment.FIRST_CHUNK: 0.1,
    Moment.LATER_CHUNK: 0.1,
    Moment.TRANSFER: 0.0,
    Moment.ANSWERING: 0.05,
}
"""A client leaves at most so many seconds after the moment has come."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """One disconnect."""

    number: int
    moment: Moment
    streams: bool
    answers: int
    clients: int
    prompt_tokens: int
    share: float
    """Of the prompt is computed before it leaves in a later chunk."""
    lingers_s: float
    """From the moment until it leaves."""


def leavings(seed: int) -> Iterator[Leaving]:
    """For ever; every twenty of them have all moments."""
    chance, numbers = random.Random(seed), count()
    while True:
        for moment in chance.sample(_DECK, len(_DECK)):
            yield _leaving(next(numbers), moment, chance)


def _leaving(number: int, moment: Moment, chance: random.Random) -> Leaving:
    whole = moment in (Moment.TRANSFER, Moment.ANSWERING)
    return Leaving(
        number,
        moment,
        streams=number % 2 == 0,
        answers=2 if chance.randrange(_TWO_ANSWERS_EACH) == 0 else 1,
        clients=_CROWD if moment is Moment.QUEUED else 1,
        prompt_tokens=chance.randint(*(_WHOLE_PROMPT_TOKENS if whole else PROMPT_TOKENS)),
        share=chance.uniform(0.1, 0.6),
        lingers_s=chance.uniform(0, _LINGERS_S[moment]),
    )


def prompt(*salt: object, tokens: int) -> list[int]:
    """Tokens that no other prompt begins with."""
    chance = random.Random(repr(salt))
    return [chance.randint(_FIRST_TOKEN, _LAST_TOKEN) for _ in range(tokens)]


# -- what an engine shows


@dataclass(frozen=True, slots=True)
class Asked:
    """One request in an engine, in tokens."""

    computed: int
    """With those of the step that runs."""
    outputs: int


@dataclass(frozen=True, slots=True)
class Pool:
    """One engine at one moment."""

    at_s: float
    """Monotonic, the same clock in all processes."""
    used: int
    """Blocks that somebody holds a reference on."""
    requests: tuple[Asked, ...]
    legs: int
    """Requests whose ticket the connector has not seen off."""
    tickets: int
    fenced: int
    step_ended_s: float = 0.0
    """When its last computation ended."""

    @property
    def empty(self) -> bool:
        """Whether nothing is left of any request."""
        return not (self.used or self.requests or self.legs or self.tickets or self.fenced)


def reached(leaving: Leaving, prefill: Pool, decode: Pool) -> bool:
    """Whether the moment to leave has come."""
    computed = [each.computed for each in prefill.requests]
    match leaving.moment:
        case Moment.QUEUED:
            return 0 in computed and any(computed)
        case Moment.FIRST_CHUNK:
            return any(computed)
        case Moment.LATER_CHUNK:
            return max(computed, default=0) >= leaving.share * leaving.prompt_tokens
        case Moment.TRANSFER:
            return not computed and bool(decode.requests)
        case Moment.ANSWERING:
            return any(each.outputs for each in decode.requests)
    return True


def moment_now(prefill: Pool, decode: Pool) -> Moment:
    """How far the request is; of several the one that waits counts, else the one furthest on."""
    computed = [each.computed for each in prefill.requests]
    if any(each.outputs for each in decode.requests):
        return Moment.ANSWERING
    if 0 in computed:
        return Moment.QUEUED
    if computed:
        return Moment.FIRST_CHUNK if max(computed) <= CHUNK_TOKENS else Moment.LATER_CHUNK
    return Moment.TRANSFER if decode.requests else Moment.ARRIVING


# -- what a run found


@dataclass(frozen=True, slots=True)
class Size:
    """So many disconnects, or as many as fit into the seconds if those are at least `least`."""

    most: int
    least: int
    seconds: float


FULL = Size(most=1000, least=1000, seconds=840)
QUICK = Size(most=60, least=15, seconds=20)


@dataclass(frozen=True, slots=True)
class Took:
    """What came of a disconnect, seconds from it."""

    freed_s: float
    """Until nothing is left of it."""
    blocks_s: float
    """Until both pools have all blocks back."""
    step_s: float
    """Until the end of the first step of prefill that ended after it: nothing can interrupt one."""


@dataclass
class Result:
    """Figures of a run. It crosses processes."""

    size: Size
    seed: int
    freed_s: dict[Moment, list[float]] = field(default_factory=dict)
    """From the disconnect until nothing is left of it anywhere, by the moment of the disconnect."""
    blocks_s: list[float] = field(default_factory=list)
    """The same until both pools have all blocks back."""
    beyond_step_s: list[float] = field(default_factory=list)
    """The same from the end of the step of prefill that the disconnect fell into."""
    counts: Counter[str] = field(default_factory=Counter)
    left_blocks: int = 0
    chunk_s: float = 0.0
    """One step of prefill, which nothing can interrupt."""
    serves: bool = False
    """Whether a request is answered at the end."""
    broken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Processes and shared memory that outlived the run."""

    @property
    def disconnects(self) -> int:
        """All that were measured."""
        return sum(map(len, self.freed_s.values()))

    def book(self, leaving: Leaving, moment: Moment, took: Took) -> None:
        """One disconnect and what came of it."""
        self.freed_s.setdefault(moment, []).append(took.freed_s)
        self.blocks_s.append(took.blocks_s)
        self.beyond_step_s.append(took.freed_s - took.step_s)
        self.counts["clients"] += leaving.clients
        self.counts["streaming"] += leaving.streams
        self.counts["two_answers"] += leaving.answers > 1

    def line(self, seconds: float) -> dict[str, Any]:
        """As it is printed."""
        freed_s = [each for some in self.freed_s.values() for each in some]
        return {
            "disconnects": self.disconnects,
            **_figures("freed", freed_s),
            **_figures("blocks", self.blocks_s),
            **_figures("beyond_step", self.beyond_step_s),
            "left_blocks": self.left_blocks,
            "phases": {
                moment.value: {"disconnects": len(some), **_figures("freed", some)}
                for moment in Moment
                if (some := self.freed_s.get(moment))
            },
            "chunk_ms": _ms(self.chunk_s),
            **{name: self.counts[name] for name in _COUNTS},
            "serves": self.serves,
            "broken": self.broken,
            "left": self.left,
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "ok": self.is_good(),
        }

    def is_good(self) -> bool:
        """Whether all went as promised."""
        freed_s = max(map(max, self.freed_s.values()), default=0.0)
        lost = self.left_blocks or self.broken or self.left or self.counts["late"]
        enough = self.disconnects >= self.size.least and len(self.freed_s) == len(Moment)
        return enough and self.serves and not lost and freed_s <= FREED_TARGET_S


_COUNTS = ("clients", "streaming", "two_answers", "too_late", "late")


def _figures(name: str, seconds: Sequence[float]) -> dict[str, float]:
    shares = {"p50": 50, "p99": 99, "max": 100}
    return {
        f"{name}_ms_{word}": _ms(percentile(seconds, share) or 0.0)
        for word, share in shares.items()
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)
