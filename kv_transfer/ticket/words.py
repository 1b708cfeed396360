"""The words of a ticket: messages between the two ends, and each end's events and commands.

A *position* is a block position within the prompt, 0 to total - 1, the same on both ends. A *block*
is an index into one engine's own memory and means nothing to the other end. A *layer* is one of the
model's layers with KV, in the order of their computation. Times are seconds on the clock of the end
that uses them; only durations travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kv_transfer.ticket.messages import (
    Alive,
    Closed,
    Message,
    Register,
    Withdraw,
    Written,
)


class IllegalTransitionError(Exception):
    """An event that cannot happen in the phase an end is in. Carries that end's story."""


# --- events that both ends know -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerDead:
    """The process that owns the peer's agent was reaped, and the own agent has progressed until
    quiet. A lost connection is not enough."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now_s: float


# --- events of the source: prefill ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """The engine has admitted the request: its first step is scheduled."""

    now_s: float


@dataclass(frozen=True, slots=True)
class TargetRegistered:
    """A registration came."""

    register: Register
    now_s: float


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A withdrawal came."""

    withdraw: Withdraw


@dataclass(frozen=True, slots=True)
class Covered:
    """Steps have *completed*: the first `computed` positions lie in `blocks`, in position order.

    Of the last step perhaps only the first `layers` layers; of the steps before it all of them.
    `source_epoch` is that of the time when the step was scheduled: the blocks of an earlier one
    belong to somebody else by now.
    """

    source_epoch: int
    blocks: tuple[int, ...]
    computed: int
    now_s: float
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Preempted:
    """The engine took the request's blocks away; it will compute the prompt again."""


@dataclass(frozen=True, slots=True)
class PromptDone:
    """The request has finished in the engine, which keeps its blocks until Release."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The engine aborted the request, or it was held for a target too long. The engine keeps its
    blocks until Release."""

    why: str


@dataclass(frozen=True, slots=True)
class WriteDone:
    """The handle of this post is done: the data is in place, and the source is free."""

    post_id: int


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """This post failed for good: nothing of it can land any more."""

    post_id: int
    why: str


@dataclass(frozen=True, slots=True)
class WriteDoubted:
    """This post failed, and parts of it may land yet: it stays in flight. Only the death of this
    process is proof, or the death of the peer, whose memory is gone then."""

    post_id: int
    why: str


SourceEvent: TypeAlias = (
    Begun
    | TargetRegistered
    | Withdrawn
    | Covered
    | Preempted
    | PromptDone
    | Dropped
    | WriteDone
    | WriteFailed
    | WriteDoubted
    | PeerDead
    | Tick
)


# --- events of the target: decode -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allocated:
    """The engine has blocks for positions `first` to `total` - 1, to be registered."""

    first: int
    blocks: tuple[int, ...]
    total: int
    now_s: float
    write_deadline_s: float


@dataclass(frozen=True, slots=True)
class NothingToLoad:
    """Decode holds all positions, or computes them itself."""


@dataclass(frozen=True, slots=True)
class PeerAlive:
    """A sign of life of the prefill leg came."""

    alive: Alive
    now_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """The notice of a write came."""

    written: Written


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """Prefill's proof came."""

    closed: Closed


@dataclass(frozen=True, slots=True)
class Aborted:
    """The engine aborted the request."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The checksums of one Verify were compared."""

    verify_id: int
    ok: bool


TargetEvent: TypeAlias = (
    Allocated
    | NothingToLoad
    | PeerAlive
    | Notice
    | PeerClosed
    | PeerDead
    | Aborted
    | Verified
    | Tick
)


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send to the peer."""

    message: Message


@dataclass(frozen=True, slots=True)
class Post:
    """Write some layers of these blocks, position first + i from sources[i] into targets[i], with
    one notice.

    Not to be posted at `before_s` or later: then report WriteFailed instead.
    """

    post_id: int
    source_epoch: int
    first: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    before_s: float
    layer: int = 0
    """The first one."""
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """Take a reference of our own on these blocks, before the scheduler runs again."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unpin:
    """Give that reference back."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """The engine may free the request's blocks. Once per ticket."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare what lies in these blocks with these checksums, and report Verified."""

    verify_id: int
    first: int
    blocks: tuple[int, ...]
    sums: tuple[int, ...]
    layer: int = 0
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Admit:
    """The engine may give the request blocks: prefill has begun, or it is certain that nothing
    will come, which the allocation then hears of. Once per ticket."""


@dataclass(frozen=True, slots=True)
class Received:
    """Report the load as finished: all KV is in place and good."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Report the load as failed and finished: the engine may use or free the blocks at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class Freed:
    """Report the load of an aborted request as finished: the engine frees the blocks."""


@dataclass(frozen=True, slots=True)
class AskKill:
    """Ask the supervisor of the peer to kill it and to report its death."""

    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Count these blocks as out of use: nobody can prove that no write will hit them."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unquarantine:
    """The proof came after all."""

    blocks: tuple[int, ...]


SourceCommand: TypeAlias = Send | Post | Pin | Unpin | Release
TargetCommand: TypeAlias = (
    Send | Admit | Verify | Received | LoadFailed | Freed | AskKill | Quarantine | Unquarantine
)
