"""What each end of a ticket knows: phases and states, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kv_transfer.ticket.messages import Register, TicketKey
from kv_transfer.ticket.words import Post, SourceCommand, SourceEvent, TargetCommand, TargetEvent

LOG_ENTRIES_MAX = 32


class SourcePhase(StrEnum):
    """Where the prefill end is."""

    OPENED = "opened"
    """No target is known."""
    STREAMING = "streaming"
    """Positions are posted as they are computed."""
    DRAINING = "draining"
    """Nothing will be posted any more; posts are in flight."""
    QUIET = "quiet"
    """Nothing is in flight and nothing will be; the engine has not ended the request."""
    CLOSED = "closed"
    """The engine may have its blocks back."""


class TargetPhase(StrEnum):
    """Where the decode end is."""

    OPENED = "opened"
    """No block is registered."""
    REGISTERED = "registered"
    """Prefill may write at any time."""
    STREAMING = "streaming"
    """Some positions are in place."""
    LANDED = "landed"
    """All positions are in place; checksums are being compared."""
    FENCING = "fencing"
    """The load has failed or nobody wants it; the proof that no write is left is awaited."""
    QUARANTINED = "quarantined"
    """The same, and asking for the peer's death did not help so far."""
    CLOSED = "closed"


class Checking(StrEnum):
    """Which checksums decode insists on."""

    OFF = "off"
    SAMPLED = "sampled"
    """Those that come are compared."""
    FULL = "full"
    """A write without them fails the load."""


@dataclass(frozen=True, slots=True)
class Signs:
    """How prefill tells decode that it lives: every `gap_s` while its leg waits, and every
    `begun_gap_s` from the beginning of its computation until decode has registered."""

    gap_s: float = 1.0
    begun_gap_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """How decode presses for a proof: reminders with a gap that doubles up to a limit.

    From the write deadline plus `grace_s` on, each reminder also asks for the peer's death; after
    `asks_max` of these the blocks count as quarantined, and reminders keep to the longest gap.
    """

    silence_s: float = 30.0
    """Without blocks: how long a prefill that gives no sign of life is waited for."""
    grace_s: float = 1.0
    gap_s: float = 0.2
    gap_max_s: float = 5.0
    asks_max: int = 6


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One step of the prefill end."""

    phase: SourcePhase
    event: SourceEvent
    commands: tuple[SourceCommand, ...]


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """One step of the decode end."""

    phase: TargetPhase
    event: TargetEvent
    commands: tuple[TargetCommand, ...]


@dataclass(frozen=True, slots=True)
class SourceState:
    """All that the prefill end knows of one ticket, one per rank.

    `blocks` and `computed` belong to the current source epoch. Positions are posted in order, so
    one number per layer says which are computed, and one which were posted. `asked` is set once
    decode is owed a proof.
    """

    key: TicketKey
    layers: int = 1
    rank: int = 0
    signs: Signs = Signs()
    phase: SourcePhase = SourcePhase.OPENED
    begun: bool = False
    sign_s: float | None = None
    """When the next sign of life is due."""
    source_epoch: int = 0
    blocks: tuple[int, ...] = ()
    computed: tuple[int, ...] = ()
    register: Register | None = None
    deadline_s: float | None = None
    posted: tuple[int, ...] = ()
    posts: int = 0
    flights: tuple[Post, ...] = ()
    reason: str | None = None
    asked: bool = False
    peer_dead: bool = False
    engine_done: bool = False
    log: tuple[SourceEntry, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether this end has closed."""
        return self.phase is SourcePhase.CLOSED


@dataclass(frozen=True, slots=True)
class TargetState:
    """All that the decode end knows of one ticket, one per rank.

    `landed` is a bitmap: of each layer in turn, bit i is position first + i. `quiet` is prefill's
    proof. `reason` says why the load cannot end well, None while it can. `late` counts notices that
    meant nothing here.
    """

    key: TicketKey
    layers: int = 1
    rank: int = 0
    checking: Checking = Checking.FULL
    patience: Patience = Patience()
    phase: TargetPhase = TargetPhase.OPENED
    heard_s: float | None = None
    """When prefill gave its last sign of life."""
    admitted: bool = False
    register: Register | None = None
    deadline_s: float = 0.0
    landed: int = 0
    quiet: bool = False
    verifies: int = 0
    verifying: frozenset[int] = frozenset()
    reason: str | None = None
    aborted: bool = False
    peer_dead: bool = False
    late: int = 0
    asks: int = 0
    gap_s: float = 0.0
    remind_s: float | None = None
    log: tuple[TargetEntry, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether this end has closed."""
        return self.phase is TargetPhase.CLOSED
