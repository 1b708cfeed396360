"""NIXL behind a few words: connect, write, ask, tell. Every call belongs to one thread.

A write is *done* at the writer only when the target's agent has been polled, so whoever owns an
agent has to poll it. A dead peer is an exception in NIXL; here it is a state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from nixl._api import nixl_agent, nixl_agent_config, nixlBind

from baton.errors import BatonError, Reason
from kv_transfer.endpoint import Blocks, Endpoint, Layout, check_pair
from kv_transfer.liveness import is_dead, this_host, this_process
from kv_transfer.obituary import Obituary
from kv_transfer.scratch import Area, Lane, Scratch, Shape

# NIXL has no common class for its errors.
_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(nixlBind, name) for name in dir(nixlBind) if name.endswith("Error")
)
_PREPARING_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, ValueError)
_log = logging.getLogger("baton.kv_transfer")
_RENEW_GAP_S, _RENEW_GAP_MAX_S = 1.0, 8.0
"""A connection that broke sooner than this after it was made is not made again yet. Making one
describes all of both memories again, so the gap doubles while connections do not last."""
_LASTING_S = 60.0


class WriteState(Enum):
    """Where a posted write is."""

    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Peer:
    name: str
    endpoint: Endpoint
    descriptors: Any
    since_s: float
    gap_s: float

    @property
    def layout(self) -> Layout:
        return self.endpoint.layout


class Agent:
    """One engine's NIXL agent over its KV memory. Raises RuntimeError where NIXL cannot start."""

    def __init__(self, name: str, layout: Layout) -> None:
        # Where transports are driven by the CPU, a progress thread polls a whole core.
        config = nixl_agent_config(enable_prog_thread=layout.memory != "DRAM")
        self._name = name
        self._agent: Any = nixl_agent(name, config)
        self._layout = layout
        self._memory = self._agent.register_memory(layout.areas(), layout.memory)
        self._local = self._agent.prep_xfer_dlist(
            "NIXL_INIT_AGENT", layout.descriptors(), layout.memory
        )
        self._shape = Shape(tuple(region.size for region in layout.regions))
        self._scratch = Scratch(self._agent, layout.memory, layout.device, self._shape.room())
        self._lanes: dict[str, Lane] = {}
        """To the scratch memory of peers that were tested."""
        self._process = this_process()
        here = this_host()
        self._obituary = Obituary(lambda process: is_dead(process, here))
        self._peers: dict[str, _Peer] = {}

    def endpoint(self) -> Endpoint:
        metadata = bytes(self._agent.get_agent_metadata())
        return Endpoint(self._name, metadata, self._layout, self._process, self._scratch.area)

    def connect(self, endpoint: Endpoint) -> bool:
        """Know a peer; returns whether it is new. Raises BatonError for one that does not fit."""
        if endpoint.agent in self._peers:
            return False
        check_pair(self._layout, endpoint.layout)
        try:
            name = _text(self._agent.add_remote_agent(endpoint.metadata))
            layout = endpoint.layout
            remote = self._agent.prep_xfer_dlist(name, layout.descriptors(), layout.memory)
        except _ERRORS as error:
            raise BatonError(Reason.TRANSFER_FAILED, f"no way to the peer: {error}") from error
        self._peers[endpoint.agent] = _Peer(name, endpoint, remote, time.monotonic(), _RENEW_GAP_S)
        self._obituary.watch(endpoint.agent, endpoint.process)
        return True

    def write(self, peer: str, what: Blocks, notice: bytes) -> Any:
        """Post a write of whole blocks; `notice` arrives after them. Returns its handle. NIXL joins
        neighbouring blocks into one descriptor.

        Raises BatonError TRANSFER_FAILED when nothing was posted.
        """
        known = self._peers.get(peer)
        if known is None:
            raise BatonError(Reason.TRANSFER_FAILED, f"no peer {peer!r} is known")
        if max(what.targets) >= known.layout.blocks or max(what.sources) >= self._layout.blocks:
            # It would land in the next region.
            raise BatonError(Reason.TRANSFER_FAILED, "a block lies beyond the end of the pool")
        return self._post(
            lambda: self._agent.make_prepped_xfer(
                "WRITE",
                self._local,
                self._layout.indices(what.sources, what.layer, what.layers),
                known.descriptors,
                known.layout.indices(what.targets, what.layer, what.layers),
                notice,
            )
        )

    def write_scratch(self, peer: str, blocks: int) -> Any:
        """Post a write of so many blocks into the peer's scratch memory. Returns its handle.

        Raises BatonError TRANSFER_FAILED when nothing was posted.
        """
        known = self._peers.get(peer)
        area = None if known is None else known.endpoint.scratch
        if known is None or area is None:
            raise BatonError(Reason.TRANSFER_FAILED, f"{peer!r} has no scratch memory")
        return self._post(lambda: self._lane(known, area).make("WRITE", blocks))

    def _lane(self, known: _Peer, area: Area) -> Lane:
        name = known.endpoint.agent
        if name not in self._lanes:
            self._lanes[name] = self._scratch.lane(known.name, area, self._shape)
        return self._lanes[name]

    def _post(self, prepare: Callable[[], Any]) -> Any:
        try:
            handle = prepare()
        except _PREPARING_ERRORS as error:
            raise BatonError(Reason.TRANSFER_FAILED, f"no write prepared: {error}") from error
        try:
            self._agent.transfer(handle)
        except _ERRORS as error:
            # Parts of it may be under way. Whoever asks for its state hears that it failed.
            _log.warning("write refused: %s", error)
        return handle

    @property
    def scratch_bytes(self) -> int:
        """Most that `write_scratch` can write at once."""
        return self._scratch.area.size

    def same_host(self, peer: str) -> bool:
        """Whether it is certain that a peer is on this host."""
        known = self._peers.get(peer)
        return known is not None and known.endpoint.process.host == self._process.host

    def state(self, handle: Any) -> WriteState:
        """Asking is also what lets a finished write's notice leave."""
        try:
            state = self._agent.check_xfer_state(handle)
        except _ERRORS as error:
            _log.warning("write failed: %s", error)
            return WriteState.FAILED
        if state == "PROC":
            return WriteState.UNDER_WAY
        return WriteState.DONE if state == "DONE" else WriteState.FAILED

    def release(self, handle: Any) -> None:
        """Forget a write that has ended."""
        try:
            self._agent.release_xfer_handle(handle)
        except _ERRORS as error:
            _log.warning("handle not released: %s", error)

    def tell(self, peer: str, message: bytes) -> bool:
        """Send a message to a known peer; False when it is gone. A connection that has broken is
        made anew: after a cut of the network the peer may live, and both ends speak before any
        write is posted."""
        known = self._peers.get(peer)
        while known is not None:
            try:
                self._agent.send_notif(known.name, message)
            except nixlBind.nixlRemoteDisconnectError as error:
                known = self._renewed(known, error)
            except _ERRORS as error:
                _log.warning("peer %s cannot be told: %s", peer, error)
                return False
            else:
                return True
        return False

    def _renewed(self, broken: _Peer, error: Exception) -> _Peer | None:
        """The peer by a fresh connection; None if this one is fresh already, or none is made."""
        peer, lasted_s = broken.endpoint.agent, time.monotonic() - broken.since_s
        if lasted_s < broken.gap_s:
            _log.warning("peer %s cannot be told: %s", peer, error)
            return None
        _log.warning("the connection to peer %s has broken and is made anew", peer)
        self.forget(peer)
        try:
            self.connect(broken.endpoint)
        except BatonError as refusal:
            _log.warning("peer %s is lost: %s", peer, refusal.message)
            return None
        gap_s = _RENEW_GAP_S if lasted_s > _LASTING_S else broken.gap_s * 2
        self._peers[peer] = replace(self._peers[peer], gap_s=min(gap_s, _RENEW_GAP_MAX_S))
        return self._peers[peer]

    def notices(self) -> list[tuple[str, bytes]]:
        """(peer, message) since the last call. Also drives the writes of peers into this memory."""
        try:
            news = self._agent.get_new_notifs()
        except _ERRORS as error:
            _log.warning("polling failed: %s", error)
            return []
        return [(_text(peer), message) for peer, messages in news.items() for message in messages]

    @property
    def peers(self) -> set[str]:
        """All that are known."""
        return set(self._peers)

    def dead(self, wanted: Iterable[str]) -> list[str]:
        """Peers among `wanted` whose process has certainly ended, each once, after this agent has
        been polled for what they had sent."""
        return self._obituary.news(wanted)

    def declare_dead(self, peers: Iterable[str]) -> None:
        """Their supervisors have seen their processes end: the proof for peers on other hosts."""
        self._obituary.declare(peers)

    def forget(self, peer: str) -> None:
        """Drop a peer that is gone for good."""
        known = self._peers.pop(peer, None)
        if known is None:
            return
        lane = self._lanes.pop(peer, None)
        steps = [] if lane is None else [lane.close]
        steps += [
            lambda: self._agent.release_dlist_handle(known.descriptors),
            lambda: self._agent.remove_remote_agent(known.name),
        ]
        for step in steps:
            try:
                step()
            except _ERRORS as error:
                _log.warning("peer %s not removed: %s", peer, error)

    def close(self) -> None:
        """Give everything back; without this the process ends by abort."""
        for peer in list(self._peers):
            self.forget(peer)
        try:
            self._agent.release_dlist_handle(self._local)
            self._scratch.close()
            self._agent.deregister_memory(self._memory)
        except _ERRORS as error:
            _log.warning("agent not closed cleanly: %s", error)
        self._agent = None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
