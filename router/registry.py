"""The workers that this router is connected to.

Follows the cluster's view: opens a link to each worker of its own configuration, closes links to
workers that left. Decides nothing about requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from baton.ids import WorkerId
from baton.messages import ClusterView, Dispatch, Member, Role, WorkerInfo, WorkerState
from router.life import FlowState, Phase
from router.peer import Peer
from router.policy.types import PolicyRules, PolicyView
from router.wire import LinkPort

_log = logging.getLogger(__name__)
_COMING = (WorkerState.STARTING, WorkerState.WARMING)
_LINKED = (WorkerState.READY, WorkerState.DRAINING)


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
                decode.promise(after.request_id, None)
        if after.plan is not None and after.phase is Phase.PREFILLING:
            waiting = self._peers.get(after.plan.decode)
            if waiting is not None:
                waiting.promise(after.request_id, prompt_tokens)

    def clear(self) -> tuple[Peer, ...]:
        """Drops every worker. The caller closes them."""
        return self._drop_all_but({})

    def has_room(self, role: Role, queued_most: int) -> bool:
        """Whether a worker of this role would take a request where at most so many may wait."""
        return any(p.info.role is role and p.has_room(queued_most) for p in self._peers.values())

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
