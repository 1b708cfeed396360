"""What can be plugged into a simulated cluster: routers and a controller, and what they are given.

Routers are asked for each request and answer with a `Choice`, with `Refused`, or with None to hold
the request back. What a plain router holds is offered again when membership changes. A
`HoldingRouter` keeps its own queues and says itself what leaves them, whenever it hears news.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from baton.ids import WorkerId
from baton.messages import Role
from simulator.job import Record
from simulator.traces.request import Request


@dataclass(frozen=True, slots=True)
class Choice:
    """Who serves a request. `prefill` is None when the decode worker computes the prompt, too."""

    prefill: WorkerId | None
    decode: WorkerId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The client gets an error instead of an answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says when it is asked: the truth at that moment, promises included."""

    worker_id: WorkerId
    queued_tokens: int
    cached_tokens: int
    queue_s: float
    """Until the request would start."""
    ttft_s: float
    """Until its prompt would be computed."""


class Sight(Protocol):
    """One worker as a router sees it. A hint with an age: the worker may have moved on."""

    worker_id: WorkerId
    role: Role
    host: str
    seen_s: float
    """When the reported part was true."""
    waiting: int
    """Prompts that wait or are being computed."""
    queued_tokens: int
    """Their tokens still to be computed."""
    queued_work_s: float
    """The same in seconds, as the worker's own time model has it."""
    step_left_s: float
    """Until its running step ends."""
    backlog_s: float
    """Until a new prompt would start, as the worker itself predicted it."""
    batch: int
    """Requests that decode, or whose KV is on its way."""
    kv_tokens: int
    """Their context."""
    kv_used: int
    """Tokens of KV memory held."""
    kv_promised: int
    """Tokens of prompts whose KV will come, but has no memory yet."""
    kv_capacity: int
    pending_requests: int
    """What this router sent since that report; `queued_tokens` and `batch` are without it."""
    pending_tokens: int
    pending_work_s: float

    def cached_tokens(self, request: Request) -> int:
        """How many tokens of the prompt are cached there, as far as this router knows."""
        ...

    def cache_changes(self) -> Iterable[tuple[int, bool]]:
        """What came (True) to its cache or left it since the last call, as far as is known.

        The first call tells of everything that is there.
        """
        ...


class View(Protocol):
    """The cluster as one router sees it. Valid during the call only."""

    router: int

    @property
    def prefill(self) -> Sequence[Sight]:
        """The workers that take prompts."""
        ...

    @property
    def decode(self) -> Sequence[Sight]:
        """The workers that take answers."""
        ...

    def ask(self, request: Request, workers: Iterable[WorkerId]) -> list[Answer]:
        """One round of questions; what is sent afterwards leaves later by the round's time.

        Workers that do not answer are left out.
        """
        ...


class Router(Protocol):
    """A routing rule."""

    def choose(self, request: Request, view: View, now: float) -> Choice | Refused | None:
        """Who serves the request; None = nobody now."""
        ...


@runtime_checkable
class HoldingRouter(Protocol):
    """A routing rule with queues of its own: requests leave by its word alone."""

    def arrived(
        self, request: Request, view: View, now: float
    ) -> Iterable[tuple[Request, Choice | Refused]]:
        """One more request, new or back from a lost worker. Returns what leaves the queues; each is
        on its way before the next is taken from the iterator."""
        ...

    def heard(
        self, view: View, now: float, computed: Record | None
    ) -> Iterable[tuple[Request, Choice | Refused]]:
        """News: a prompt that this router sent was computed, or (None) a report or a change of
        membership came, or the time it asked for. Returns what leaves the queues."""
        ...

    def wakes_at_s(self) -> float | None:
        """When it wants to hear even without news; asked after each call."""
        ...


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as the controller sees it: counts of workers, and measurements of the window."""

    ready: int
    starting: int
    draining: int
    backlog_s: tuple[float, ...]
    """Per ready worker: seconds of prompts that wait or are being computed."""
    kv_share: tuple[float, ...]
    """Per ready worker: share of KV memory held."""
    batch: tuple[int, ...]
    """Per ready worker: requests that decode."""
    waiting: tuple[int, ...]
    """Per ready worker: prompts that wait or are being computed, and KV that waits for memory."""
    latency_s: tuple[float, ...]
    """TTFT of those who got their first token in the window, TPOT of those who finished in it."""


@dataclass(frozen=True, slots=True)
class ClusterSight:
    """What the controller decides on."""

    prefill: PoolView
    decode: PoolView
    arrivals: int
    """Requests that came in the window."""
    input_tokens: int
    uncached_tokens: int
    """Of the prompts that started in the window, what had to be computed."""
    started_tokens: int
    """Those prompts whole."""
    output_tokens: int
    """Asked for by the requests that came in the window."""
    unplaced: int
    """Requests that routers hold."""
    unplaced_tokens: int
    """Their prompts."""
    finished: int
    finished_tokens: int
    """Of the answers that ended in the window."""
    oldest_s: float
    """Age of the oldest request without a first token."""
    transfer_backlog_s: float
    """The longest time a prefill worker will still be sending."""
    window_s: float
    startup_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many workers each pool should have, ready or starting. Role changes come first."""

    prefill: int
    decode: int
    to_decode: int = 0
    """Prefill workers that become decode workers."""
    to_prefill: int = 0
    reason: str = ""


class Controller(Protocol):
    """A law of scaling. Its memory goes in and comes out; the first is None."""

    def decide(self, view: ClusterSight, memory: object, now: float) -> tuple[Wanted, object]:
        """What should be, and what to remember."""
        ...
