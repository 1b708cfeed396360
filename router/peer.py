"""A worker that this router is connected to: its last report, what it was sent since, its legs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from baton.ids import RequestId
from baton.messages import WorkerInfo, WorkerLoad
from baton.wire import worker_pb2 as pb
from router.life import OpenLeg
from router.policy.types import WorkerView
from router.wire import LinkPort, load_of, sane

_LOAD = tuple(one.name for one in fields(WorkerLoad))


@dataclass(slots=True)
class Sent:
    """What went to a worker in some stretch of time."""

    requests: int = 0
    prompt_tokens: int = 0
    work_s: float = 0.0
    """What computing the prompts there is expected to take."""


class Standing(NamedTuple):
    """What a new request would find at a worker: its last report, and what was sent since."""

    draining: bool
    """By its own word."""
    queued: int
    """Requests that wait there, or will in a moment."""
    batch: int
    """Requests that run or wait there, or will in a moment."""
    queued_prompt_tokens: int
    """Prompt tokens of requests that have produced nothing there, or will be in a moment."""
    kv_tokens: int
    """KV in use or promised. What waits for its KV has no blocks yet, or only in part."""
    queue_s: float
    """Seconds of prompts, as reported."""
    sent_s: float
    """Of those sent since."""


@dataclass(slots=True)
class Peer:
    """One linked worker.

    `answering` maps the legs whose tokens are for clients to their requests; the same dict serves
    for every frame. `promised` are requests whose decode leg will come once prefill is done, with
    their prompt tokens: no report of the worker can hold them.
    """

    info: WorkerInfo
    link: LinkPort
    draining: bool = False
    transfer: pb.Transfer | None = None
    """Its last report of KV transfers. Totals outlive a lost link."""
    heard_at: float | None = None
    """When its last frame came; None while the link is down."""
    answering: dict[str, RequestId] = field(default_factory=dict)
    prefilling: dict[str, RequestId] = field(default_factory=dict)
    promised: dict[RequestId, int] = field(default_factory=dict)
    shunned: bool = False
    """Whether it is silent, or has been lost too often lately: it gets nothing new."""
    stepped_s: float = 0.0
    """What its engine's steps have taken since it started, as last heard; outlives a lost link."""
    _report: pb.Load = field(default_factory=pb.Load)
    _read: tuple[pb.Load | None, WorkerLoad] = None, WorkerLoad()
    """A report that somebody has asked for, and what it said."""
    _sent: Sent = field(default_factory=Sent)
    _sent_before: Sent = field(default_factory=Sent)
    _standing: Standing | None = None
    """Until something changes it."""

    @property
    def up(self) -> bool:
        """Whether its link is up."""
        return self.heard_at is not None

    @property
    def load(self) -> WorkerLoad:
        """As last reported, nothing while the link is down; any thread may ask."""
        # Frames come far more often than anybody asks.
        report, (read, load) = self._report, self._read
        if read is not report:
            load = load_of(report)
            self._read = report, load
        return load

    def heard(self, now: float, report: pb.Load | None) -> None:
        """A frame came. It may have left the worker before our last messages reached it.

        So what was sent counts on top of the report until the second frame after it.
        """
        self.heard_at = now
        if report is not None:
            self._report, self.stepped_s = report, sane(report.steps_s)
        self._sent_before, self._sent = self._sent, Sent()
        self._standing = None

    def took(self, leg: OpenLeg, prompt_tokens: int, work_s: float = 0.0) -> None:
        """A leg was sent to it; `work_s` for a prompt that is computed there."""
        legs = self.answering if leg.answers else self.prefilling
        legs[str(leg.leg_id)] = leg.leg_id.request
        self._sent.requests += 1
        self._sent.prompt_tokens += prompt_tokens
        self._sent.work_s += work_s
        self._standing = None

    def promise(self, request_id: RequestId, prompt_tokens: int | None) -> None:
        """Its decode leg will come here; None: it has come, or will not."""
        if prompt_tokens is None:
            self.promised.pop(request_id, None)
        else:
            self.promised[request_id] = prompt_tokens
        self._standing = None

    def forget(self, leg: OpenLeg) -> None:
        """A leg has ended there, or is of no interest any more."""
        legs = self.answering if leg.answers else self.prefilling
        legs.pop(str(leg.leg_id), None)

    def requests(self) -> list[RequestId]:
        """The requests that need this worker."""
        found = (*self.answering.values(), *self.prefilling.values(), *self.promised)
        return list(dict.fromkeys(found))

    def down(self) -> None:
        """The link is gone, and everything that was known through it."""
        self.heard_at = None
        self._report = pb.Load()
        self._sent, self._sent_before = Sent(), Sent()
        self._standing = None

    def row(self, now: float) -> dict[str, Any]:
        """The worker for a status page, in what JSON can hold."""
        return {
            "worker_id": self.info.worker_id,
            "role": self.info.role.value,
            "incarnation": self.info.incarnation,
            "address": self.info.address,
            "up": self.up,
            "draining": self.draining or self.load.draining,
            "frame_age_s": None if self.heard_at is None else now - self.heard_at,
            "answering_legs": len(self.answering),
            "prefill_legs": len(self.prefilling),
            "load": {name: getattr(self.load, name) for name in _LOAD},
        }

    @property
    def standing(self) -> Standing:
        """What a new request would find there."""
        # Each request looks at every worker, several times.
        if (found := self._standing) is None:
            found = self._standing = self._stands()
        return found

    def _stands(self) -> Standing:
        report, sent, before = self._report, self._sent, self._sent_before
        queued = report.waiting + sent.requests + before.requests + len(self.promised)
        tokens = report.queued_prompt_tokens + sent.prompt_tokens + before.prompt_tokens
        tokens += sum(self.promised.values())
        return Standing(
            report.draining,
            queued,
            report.running + queued,
            tokens,
            round(min(sane(report.kv_used), 1.0) * self.kv_tokens_max) + tokens,
            sane(report.queue_s),
            sent.work_s + before.work_s,
        )

    @property
    def open(self) -> bool:
        """Whether it would take new requests, as far as is known."""
        return self.heard_at is not None and not (self.draining or self.standing.draining)

    @property
    def taking(self) -> bool:
        """Whether it is to get new requests."""
        return self.open and not self.shunned

    def has_room(self, queued_most: int) -> bool:
        """Whether it would take a new request where at most so many may wait."""
        return self.open and self.standing.queued < queued_most

    @property
    def kv_tokens_max(self) -> int:
        """KV that it has room for."""
        return self.info.kv_blocks * self.info.block_size_tokens

    def queue_s(self, now: float) -> float:
        """Seconds of prompts before a new one: as reported, less the time since, plus what was
        sent since."""
        since_s = 0.0 if self.heard_at is None else max(now - self.heard_at, 0.0)
        found = self.standing
        return max(found.queue_s - since_s, 0.0) + found.sent_s

    def view(self) -> WorkerView:
        """The worker as policies see it."""
        load, found = self.load, self.standing
        return WorkerView(
            self.info.worker_id,
            load,
            found.queued - load.waiting,
            found.queued_prompt_tokens - load.queued_prompt_tokens,
            draining=self.draining,
        )
