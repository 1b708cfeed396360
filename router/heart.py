"""The shell around flow and policy: takes requests in, runs their commands, hears the workers.

Everything happens synchronously in one event loop: a call from the front end or from a link
becomes an event of a flow, and the flow's commands are carried out before the call returns. Per
token nothing is done here: a frame's outputs go to the front end with the worker's own map of legs.
A request is owned by the heart from `submit` on, until it tells the front end of its end or the
front end aborts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.ids import RequestId, WorkerId, parse_leg_id
from baton.messages import ClusterView
from baton.settings import Settings
from baton.tasks import TaskFault, Tasks
from baton.wire import worker_pb2 as pb
from router import flow, life, wire
from router.door import Door
from router.ledger import Ledger, Life
from router.metrics import RouterMetrics
from router.ports import EngineRequest, FrontPort
from router.registry import Peer, Registry
from router.transfers import TransferCollector, transfer_row

_log = logging.getLogger(__name__)

_TICK_S = 0.05
_TICK_AFTER_FAULT_S = 1.0
# What a fault in the flow can look like; each of them ends one request and nothing else.
_FAULTS = (
    flow.IllegalTransitionError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_ANSWERING = (life.Phase.PAIRED, life.Phase.DECODING, life.Phase.STREAMING)


class Heart:
    """One router's requests and workers. Implements `router.ports.HeartPort` and `LinkEvents`.

    `attach` a front end before the first request. Belongs to one event loop.
    """

    def __init__(
        self,
        identity: wire.Identity,
        settings: Settings,
        clock: Clock,
        metrics: RouterMetrics,
        connect: wire.Connect,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._metrics = metrics
        self._registry = Registry(identity.config_digest, lambda info: connect(info, self))
        metrics.registry.register(TransferCollector(self._registry.peers))
        self._ledger = Ledger(metrics)
        self._door = Door(settings, self._registry, self._ledger, metrics)
        self._tasks = Tasks("heart")
        self._front: FrontPort | None = None
        self._viewed_at = clock.now()
        self._held_aborts: dict[RequestId, None] | None = None

    def attach(self, front: FrontPort) -> None:
        """Sets the front end, which is itself made with the heart in hand."""
        self._front = front

    def start(self) -> None:
        """Begins to watch deadlines, in the running event loop."""
        self._spawn_ticks(after_s=0)

    async def aclose(self) -> None:
        """Ends every request with DRAINING and closes every link, which frees the workers."""
        self._door.close()
        for one in self._ledger:
            self._fail(one, BatonError(Reason.DRAINING, "The router stops."))
        await asyncio.gather(*(peer.link.aclose() for peer in self._registry.clear()))
        await self._tasks.aclose()

    # --- the front end's side ---------------------------------------------------------------------

    def check_ready(self) -> None:
        """Raises BatonError while no request at all could be served."""
        self._door.check_ready()

    def admit(self, sequences: int = 1) -> None:
        """See `HeartPort`: DRAINING, QUEUE_FULL, or why no decode worker takes requests."""
        self._door.admit(sequences)

    def submit(self, request: EngineRequest) -> None:
        """See `HeartPort`. Besides what `admit` raises: DUPLICATE_ID."""
        plan = self._door.plan(request)
        now = self._clock.now()
        one = self._ledger.enter(request, now, self._door.limit_s(request))
        self._feed(one, life.Planned(cause=plan.reason.value, at_s=now, plan=plan))

    def abort(self, request_ids: Sequence[RequestId]) -> None:
        """See `HeartPort`. The front end is not told of the end of what it aborts."""
        if self._held_aborts is not None:
            self._held_aborts.update(dict.fromkeys(request_ids))
            return
        event = life.ClientLeft(cause="aborted by the front end", at_s=self._clock.now())
        for request_id in request_ids:
            self._feed_id(request_id, event)

    # --- the cluster's side -----------------------------------------------------------------------

    def set_view(self, view: ClusterView) -> None:
        """Follows a newer view of the cluster, ignores others; call it in the event loop."""
        if view.version <= self._registry.version:
            return
        changes = self._registry.set_view(view)
        self._viewed_at = self._clock.now()
        for _ in changes.refused:
            self._metrics.worker_refused()
        for peer in changes.gone:
            self._lose(peer, "left the cluster")
            self._metrics.forget_worker(peer.info.worker_id, peer.info.role)
            self._tasks.spawn(peer.link.aclose(), f"close {peer.info.worker_id}")

    def on_frame(self, worker_id: WorkerId, frame: pb.StepFrame) -> None:
        """See `LinkEvents`."""
        peer = self._registry.get(worker_id)
        if peer is None:
            return
        self._metrics.frame(peer.info.role)
        load = wire.load_of(frame.load) if frame.HasField("load") else None
        peer.heard(self._clock.now(), load)
        if frame.HasField("transfer"):
            peer.transfer = frame.transfer
        for prefilled in frame.prefilled:
            self._prefilled(peer, prefilled)
        if frame.outputs:
            self._deliver(peer, frame)
        for ended in frame.ended:
            self._leg_ended(peer, ended)

    def on_link_lost(self, worker_id: WorkerId, why: str) -> None:
        """See `LinkEvents`."""
        peer = self._registry.get(worker_id)
        if peer is not None:
            self._metrics.link_lost(peer.info.role)
            _log.warning("lost worker %s: %s", worker_id, why)
            self._lose(peer, why)

    def tick(self, now: float) -> None:
        """Ends what is out of time; call it a few times per second."""
        for request_id in self._ledger.due(now):
            self._feed_id(request_id, life.DeadlinePassed(cause="tick", at_s=now))
        for peer in self._registry.peers():
            info = peer.info
            self._metrics.worker(info.worker_id, info.role, peer.load, up=peer.up)

    # --- the operator's side ----------------------------------------------------------------------

    def drain(self) -> None:
        """Takes nothing new from now on; what runs goes on."""
        self._door.close()

    @property
    def inflight(self) -> int:
        """Requests inside the router."""
        return len(self._ledger)

    async def idle(self) -> None:
        """Returns once no request is inside the router."""
        await self._ledger.idle()

    def status(self) -> dict[str, Any]:
        """The router now, in what JSON can hold. Ages in seconds."""
        now = self._clock.now()
        return {
            "router_id": self._identity.router_id,
            "draining": self._door.closed,
            "view_version": self._registry.version,
            "view_age_s": now - self._viewed_at,
            "inflight_requests": self.inflight,
            "ended": dict(self._ledger.ended),
            "refused": dict(self._door.refused),
            "refused_workers": dict(self._registry.refused),
            "workers": [_row(peer, now) for peer in self._registry.peers()],
        }

    def story(self, request_id: str) -> str | None:
        """The life of a request, running or lately ended; part of its id will do. None: unknown."""
        return self._ledger.story(request_id)

    # --- hearing workers --------------------------------------------------------------------------

    def _prefilled(self, peer: Peer, news: pb.Prefilled) -> None:
        if news.leg_id in peer.answering:
            self._first_token(peer, peer.answering[news.leg_id])
            return
        request_id = peer.prefilling.get(news.leg_id)
        if request_id is not None:
            event = life.Prefilled(
                cause=f"{peer.info.worker_id} reported",
                at_s=self._clock.now(),
                leg_id=parse_leg_id(news.leg_id),
                handed=news.handed,
                cached_tokens=news.cached_tokens,
            )
            self._feed_id(request_id, event)

    def _first_token(self, peer: Peer, request_id: RequestId) -> None:
        one = self._ledger.get(request_id)
        if one is not None and one.state.phase is not life.Phase.STREAMING:
            now = self._clock.now()
            self._metrics.first_token(now - one.taken_at)
            self._feed(one, life.TokensCame(cause=f"{peer.info.worker_id} reported", at_s=now))

    def _deliver(self, peer: Peer, frame: pb.StepFrame) -> None:
        assert self._front is not None
        # An abort in the middle of a delivery would change the map that the front end reads.
        held = self._held_aborts = {}
        try:
            finished = self._front.deliver(frame.outputs, peer.answering)
        finally:
            self._held_aborts = None
        for request_id in finished:
            self._finish(request_id, peer, engine_done=request_id not in held)
        for request_id in held:
            self._finish(request_id, peer, engine_done=False)

    def _finish(self, request_id: RequestId, peer: Peer, *, engine_done: bool) -> None:
        one = self._ledger.get(request_id)
        if one is None:
            return
        cause, now = f"frame of {peer.info.worker_id}", self._clock.now()
        if one.state.phase in _ANSWERING:
            self._feed(one, life.Finished(cause=cause, at_s=now, engine_done=engine_done))
        else:
            # A sibling (n > 1) that is not so far as to answer.
            self._feed(one, life.ClientLeft(cause=cause, at_s=now))

    def _leg_ended(self, peer: Peer, news: pb.Ended) -> None:
        request_id = peer.answering.get(news.leg_id) or peer.prefilling.get(news.leg_id)
        if request_id is not None:
            error = wire.error_of(news)
            event = life.LegEnded(
                cause=f"{peer.info.worker_id} reported",
                at_s=self._clock.now(),
                leg_id=parse_leg_id(news.leg_id),
                reason=error.reason,
                message=error.message,
                retry_after_s=error.retry_after_s,
            )
            self._feed_id(request_id, event)

    def _lose(self, peer: Peer, why: str) -> None:
        peer.down()
        event = life.WorkerLost(cause=why, at_s=self._clock.now(), worker_id=peer.info.worker_id)
        for request_id in peer.requests():
            self._feed_id(request_id, event)

    # --- events in, commands out ------------------------------------------------------------------

    def _feed_id(self, request_id: RequestId, event: life.Event) -> None:
        one = self._ledger.get(request_id)
        if one is not None:
            self._feed(one, event)

    def _feed(self, one: Life, event: life.Event) -> None:
        before = one.state
        try:
            one.state, commands = flow.step(before, event)
        except _FAULTS:
            _log.exception("fault in the life of request %s", one.request.request_id)
            self._metrics.broke()
            broke = life.Broke(cause=event.cause, at_s=event.at_s)
            one.state, commands = flow.step(before, broke)
        self._registry.settle(before, one.state, one.request.prompt_tokens)
        self._execute(one, commands)

    def _execute(self, one: Life, commands: Iterable[life.Command]) -> None:
        for command in commands:
            match command:
                case life.SubmitLeg():
                    self._submit_leg(one, command)
                case life.AbortLeg():
                    self._send(command.worker_id, wire.abort_message([command.leg_id]))
                case life.Fail():
                    self._fail(one, _error(command))
                case life.Close():
                    self._ledger.leave(one, command.reason, self._clock.now())

    def _submit_leg(self, one: Life, command: life.SubmitLeg) -> None:
        leg, now = life.OpenLeg(command.leg_id, command.worker_id), self._clock.now()
        if leg not in one.state.legs:
            # An earlier command of the same step has failed and ended the request.
            return
        peer = self._registry.get(command.worker_id)
        if peer is None or not peer.up:
            lost = life.WorkerLost(cause="not connected", at_s=now, worker_id=command.worker_id)
            self._feed(one, lost)
            return
        peer.took(leg, one.request.prompt_tokens)
        left_s = one.deadline.remaining_s(now)
        other = self._registry.get(one.state.other_end(command.kind))
        endpoint = b"" if other is None else other.info.transfer_endpoint
        peer.link.send(wire.submit_message(command, one.request, left_s, endpoint))

    def _send(self, worker_id: WorkerId, message: pb.RouterMessage) -> None:
        peer = self._registry.get(worker_id)
        if peer is not None and peer.up:
            peer.link.send(message)

    def _fail(self, one: Life, error: BatonError) -> None:
        assert self._front is not None
        # It leaves first, because the front end may answer with aborts of its own.
        if self._ledger.leave(one, error.reason, self._clock.now()):
            self._front.fail(one.request.request_id, error)

    def _spawn_ticks(self, after_s: float) -> None:
        ticks = self._tick_for_ever(after_s)
        self._tasks.spawn(ticks, "tick", eternal=True, on_fault=self._tick_again)

    def _tick_again(self, _fault: TaskFault) -> None:
        # What raised has been logged. Without ticks no other request would have a deadline.
        self._spawn_ticks(after_s=_TICK_AFTER_FAULT_S)

    async def _tick_for_ever(self, after_s: float) -> None:
        if after_s > 0:
            await asyncio.sleep(after_s)
        while True:
            self.tick(self._clock.now())
            await asyncio.sleep(_TICK_S)


def _row(peer: Peer, now: float) -> dict[str, Any]:
    report = peer.transfer
    return {**peer.row(now), "transfer": None if report is None else transfer_row(report)}


def _error(failed: life.Fail) -> BatonError:
    return BatonError(failed.reason, failed.message, retry_after_s=failed.retry_after_s)
