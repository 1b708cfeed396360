"""The words of one request's life: its phases, events, commands and state.

Events are what has happened, commands what is to be done. All are frozen values; `flow` says how
they follow from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from baton.errors import Reason
from baton.ids import Leg, LegId, RequestId, WorkerId
from baton.messages import NO_TIMES, LegTimes
from router.policy.types import Plan

LOG_ENTRIES_MAX = 32
ATTEMPTS_MAX = 5
"""One, and one more each time that a worker sends a request back or is lost."""


class Phase(StrEnum):
    """Where a request is. Only CLOSED has no way out."""

    NEW = "new"
    """No worker has it: it is to be placed, for the first time or again."""
    PREFILLING = "prefilling"
    """Sequential dispatch: the prefill leg is out, the decode leg waits for what it hands over."""
    PAIRED = "paired"
    """Concurrent dispatch: both legs are out."""
    DECODING = "decoding"
    """The leg that answers is out, alone, and nothing came of it yet."""
    STREAMING = "streaming"
    """Tokens have come. A prefill leg may be open still: its end is news on another link."""
    CLOSED = "closed"


ANSWERING = frozenset({Phase.PAIRED, Phase.DECODING, Phase.STREAMING})
"""The leg that answers is out."""

# --- events: what has happened --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`cause` says what made it happen, for people; `at_s` is the caller's clock, in seconds."""

    cause: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Event):
    """A policy has chosen the workers."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Event):
    """It stays in the router for now; the cause says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced(Event):
    """Nobody can serve it any more."""

    reason: Reason
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled(Event):
    """A prefill leg is complete; `handed` is its connector's word for the decode leg."""

    leg_id: LegId
    handed: bytes = b""
    cached_tokens: int = 0
    times: LegTimes = NO_TIMES


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensCame(Event):
    """The first output for the client; `times` are those of the leg that answers."""

    times: LegTimes = NO_TIMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The answer is complete.

    `engine_done` is False when the front end ended it, by a stop string for instance: then the
    engine knows nothing of it and goes on until it is told.
    """

    engine_done: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LegEnded(Event):
    """A worker refused a leg or gave it up."""

    leg_id: LegId
    reason: Reason
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(Event):
    """A worker is out of reach, and with it every leg it had."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed(Event):
    """The client's time, or the router's limit, is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLeft(Event):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke(Event):
    """A fault in the router itself; ends the request in every phase."""


# --- commands: what is to be done -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handoff:
    """Names the transfer between two legs of one attempt; `handed` as prefill reported it."""

    ticket_id: str
    epoch: int
    handed: bytes = b""


@dataclass(frozen=True, slots=True)
class SubmitLeg:
    """Send this leg to this worker. A solo leg has no handoff."""

    leg_id: LegId
    worker_id: WorkerId
    handoff: Handoff | None = None

    @property
    def kind(self) -> Leg:
        """What the worker is to do."""
        return self.leg_id.leg


@dataclass(frozen=True, slots=True)
class AbortLeg:
    """Make this worker forget this leg. Harmless if it has ended there meanwhile."""

    leg_id: LegId
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class PlaceAgain:
    """Choose workers anew: one has sent the request back, or is lost.

    `reason`, `message` and `retry_after_s` are what the request ends with if nobody else can serve
    it.
    """

    attempt: int
    worker_id: WorkerId
    """Whom not to choose, unless it said no more than that its queue was longer than thought."""
    reason: Reason
    message: str
    retry_after_s: float | None = None

    @property
    def why(self) -> str:
        """What happened, for people."""
        return f"{self.worker_id}: {self.message}"


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the front end that the request ended with an error. The last command of a life."""

    reason: Reason
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Forget the request; the front end knows. `reason` is None when it finished well."""

    reason: Reason | None = None


Command: TypeAlias = SubmitLeg | AbortLeg | PlaceAgain | Fail | Close


# --- state ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """A leg that a worker may still be working on."""

    leg_id: LegId
    worker_id: WorkerId

    @property
    def answers(self) -> bool:
        """Whether the client's tokens come from it."""
        return self.leg_id.leg is not Leg.PREFILL


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of a life."""

    phase: Phase
    event: Event
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class FlowState:
    """All that is known of one request. `plan` and `legs` belong to the current attempt."""

    request_id: RequestId
    resumable: bool = True
    """Whether another worker can go on where tokens have been sent already."""
    phase: Phase = Phase.NEW
    attempt: int = 0
    plan: Plan | None = None
    legs: tuple[OpenLeg, ...] = ()
    log: tuple[Entry, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether the request has ended."""
        return self.phase is Phase.CLOSED

    def leg_id(self, leg: Leg) -> LegId:
        """The name of a leg of the current attempt."""
        return LegId(self.request_id, self.attempt, leg)

    def other_end(self, leg: Leg) -> WorkerId | None:
        """The worker at the other end of the transfer of this leg, None for a solo leg."""
        if self.plan is None or leg is Leg.SOLO:
            return None
        return self.plan.decode if leg is Leg.PREFILL else self.plan.prefill

    def handoff(self, handed: bytes = b"") -> Handoff:
        """The handoff of the current attempt."""
        return Handoff(f"{self.request_id}.{self.attempt}", self.attempt, handed)
