"""The workers that this router is connected to, and what it knows of each.

Follows the cluster's view: opens a link to each worker of its own configuration, closes links to
workers that left. Keeps, per worker, the last reported load, what was sent since, and which leg
belongs to which request. Decides nothing about requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from baton.ids import RequestId, WorkerId
from baton.messages import ClusterView, Dispatch, Member, Role, WorkerInfo, WorkerLoad, WorkerState
from baton.wire import worker_pb2 as pb
from router.life import FlowState, OpenLeg, Phase
from router.policy.types import PolicyRules, PolicyView, WorkerView
from router.wire import LinkPort, load_of, sane

_log = logging.getLogger(__name__)
_COMING = (WorkerState.STARTING, WorkerState.WARMING)
_LOAD = tuple(one.name for one in fields(WorkerLoad))
_LINKED = (WorkerState.READY, WorkerState.DRAINING)


@dataclass(slots=True)
class Sent:
    """What went to a worker in some stretch of time."""

    requests: int = 0
    prompt_tokens: int = 0
    work_s: float = 0.0
    """What computing the prompts there is expected to take."""


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

    def took(self, leg: OpenLeg, prompt_tokens: int, work_s: float = 0.0) -> None:
        """A leg was sent to it; `work_s` for a prompt that is computed there."""
        legs = self.answering if leg.answers else self.prefilling
        legs[str(leg.leg_id)] = leg.leg_id.request
        self._sent.requests += 1
        self._sent.prompt_tokens += prompt_tokens
        self._sent.work_s += work_s

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
    def open(self) -> bool:
        """Whether it would take new requests, as far as is known."""
        return self.up and not (self.draining or self.load.draining)

    @property
    def taking(self) -> bool:
        """Whether it is to get new requests."""
        return self.open and not self.shunned

    @property
    def queued(self) -> int:
        """Requests that wait there, or will in a moment."""
        return (
            self.load.waiting
            + self._sent.requests
            + self._sent_before.requests
            + len(self.promised)
        )

    @property
    def batch(self) -> int:
        """Requests that run or wait there, or will in a moment."""
        return self.load.running + self.queued

    @property
    def queued_prompt_tokens(self) -> int:
        """Prompt tokens of requests that have produced nothing there, or will be in a moment."""
        sent = self._sent.prompt_tokens + self._sent_before.prompt_tokens
        return self.load.queued_prompt_tokens + sent + sum(self.promised.values())

    @property
    def kv_tokens(self) -> int:
        """KV in use or promised. What waits for its KV has no blocks yet, or only in part."""
        return round(self.load.kv_used * self.kv_tokens_max) + self.queued_prompt_tokens

    @property
    def kv_tokens_max(self) -> int:
        """KV that it has room for."""
        return self.info.kv_blocks * self.info.block_size_tokens

    def queue_s(self, now: float) -> float:
        """Seconds of prompts before a new one: as reported, less the time since, plus what was
        sent since."""
        since_s = 0.0 if self.heard_at is None else max(now - self.heard_at, 0.0)
        reported_s = max(self.load.queue_s - since_s, 0.0)
        return reported_s + self._sent.work_s + self._sent_before.work_s

    def view(self) -> WorkerView:
        """The worker as policies see it."""
        sent = (self._sent, self._sent_before)
        return WorkerView(
            self.info.worker_id,
            self.load,
            sum(s.requests for s in sent) + len(self.promised),
            sum(s.prompt_tokens for s in sent) + sum(self.promised.values()),
            draining=self.draining,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new view changed."""

    gone: tuple[Peer, ...] = ()
    refused: tuple[WorkerId, ...] = ()


class Registry:
    """All linked workers. `open_link` is called once per incarnation of a worker."""

    def __init__(self, config_digest: str, open_link: Callable[[WorkerInfo], LinkPort]) -> None:
        self._digest = config_digest
        self._open_link = open_link
        self._peers: dict[WorkerId, Peer] = {}
        self._view = ClusterView(version=-1)
        self.refused: dict[WorkerId, str] = {}
        """Workers of another configuration, and what is wrong with each."""

    @property
    def version(self) -> int:
        """Version of the current view; -1 before the first."""
        return self._view.version

    def get(self, worker_id: WorkerId | None) -> Peer | None:
        """A linked worker; None for one that is not, and for nobody."""
        return None if worker_id is None else self._peers.get(worker_id)

    def peers(self) -> tuple[Peer, ...]:
        """All linked workers."""
        return tuple(self._peers.values())

    def set_view(self, view: ClusterView) -> Changes:
        """Replaces the view; one that is not newer is ignored. The caller closes what is gone."""
        if view.version <= self._view.version:
            return Changes()
        self._view = view
        refused = self._refuse(view.members)
        wanted = {m.worker_id: m for m in view.members if self._is_wanted(m)}
        gone = self._drop_all_but(wanted)
        for member in wanted.values():
            self._follow(member)
        return Changes(gone, refused)

    def settle(self, before: FlowState, after: FlowState, prompt_tokens: int) -> None:
        """Keeps the books in line with a step of a flow; the legs it opened are `took` when sent.

        `prompt_tokens` is the length of the request's prompt.
        """
        for leg in before.legs:
            peer = self._peers.get(leg.worker_id)
            if leg not in after.legs and peer is not None:
                peer.forget(leg)
        for plan in (before.plan, after.plan):
            if plan is not None and (decode := self._peers.get(plan.decode)) is not None:
                decode.promised.pop(after.request_id, None)
        if after.plan is not None and after.phase is Phase.PREFILLING:
            waiting = self._peers.get(after.plan.decode)
            if waiting is not None:
                waiting.promised[after.request_id] = prompt_tokens

    def clear(self) -> tuple[Peer, ...]:
        """Drops every worker. The caller closes them."""
        return self._drop_all_but({})

    def policy_view(self, rules: PolicyRules) -> PolicyView:
        """The workers whose links are up, as policies see them."""
        up = [peer for peer in self._peers.values() if peer.up]
        return PolicyView(
            prefill=tuple(p.view() for p in up if p.info.role is Role.PREFILL),
            decode=tuple(p.view() for p in up if p.info.role is Role.DECODE),
            dispatch=_dispatch(up),
            starting=self._starting(),
            rules=rules,
        )

    def _starting(self) -> frozenset[Role]:
        starting = (m.role for m in self._view.members if m.state in _COMING)
        connecting = (p.info.role for p in self._peers.values() if not p.up and not p.draining)
        return frozenset((*starting, *connecting))

    def _refuse(self, members: Iterable[Member]) -> tuple[WorkerId, ...]:
        before, self.refused = self.refused, {}
        for info in (m.info for m in members if m.info is not None and m.state in _LINKED):
            if info.config_digest != self._digest:
                self.refused[info.worker_id] = (
                    f"start {info.incarnation} has configuration {info.config_digest}, "
                    f"this router {self._digest}"
                )
        new = {w: why for w, why in self.refused.items() if before.get(w) != why}
        for worker_id, why in new.items():
            _log.error("worker %s is refused: %s", worker_id, why)
        return tuple(new)

    def _is_wanted(self, member: Member) -> bool:
        return (
            member.info is not None
            and member.state in _LINKED
            and member.worker_id not in self.refused
        )

    def _drop_all_but(self, wanted: dict[WorkerId, Member]) -> tuple[Peer, ...]:
        gone = tuple(p for w, p in self._peers.items() if not _is_same(p.info, wanted.get(w)))
        for peer in gone:
            del self._peers[peer.info.worker_id]
        return gone

    def _follow(self, member: Member) -> None:
        assert member.info is not None
        peer = self._peers.get(member.worker_id)
        if peer is None:
            peer = Peer(member.info, self._open_link(member.info))
            self._peers[member.worker_id] = peer
        peer.info = member.info
        peer.draining = member.state is WorkerState.DRAINING


def _is_same(info: WorkerInfo, member: Member | None) -> bool:
    """Whether a member is the process that we are linked to. Its role may have changed."""
    return (
        member is not None
        and member.info is not None
        and (member.info.incarnation, member.info.address) == (info.incarnation, info.address)
    )


def _dispatch(peers: Iterable[Peer]) -> Dispatch:
    """As the connector requires; one configuration has one connector."""
    return next((peer.info.dispatch for peer in peers), Dispatch.SEQUENTIAL)
