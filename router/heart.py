"""The shell around flow and policy: takes requests in, runs their commands, hears the workers.

All in one event loop: a call becomes an event of a flow, whose commands are carried out before the
call returns. Nothing is done per token. A request is owned by the heart from `submit` on, until it
tells the front end of its end or the front end aborts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.ids import Leg, RequestId, WorkerId
from baton.messages import ClusterView
from baton.settings import Settings
from baton.signals import RouterSignals
from baton.tasks import Tasks
from baton.wire import worker_pb2 as pb
from router import collectors, direct, events, flow, keeping, life, planning, wire
from router.caller import ANYBODY, Caller
from router.delivery import Delivery
from router.door import Door
from router.gate import Gate
from router.ledger import Ledger, Life
from router.measuring import Measuring
from router.metrics import RouterMetrics
from router.peer import Peer
from router.placing import Placing, resumed
from router.planners import planner_of
from router.ports import EngineRequest, FrontPort
from router.registry import Registry
from router.retries import RetryBudget
from router.signals import Signals
from router.ticker import Ticker
from router.watch import Verdict, Watch
from router.window import Window

_log = logging.getLogger(__name__)


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
        self._clock = clock
        self._metrics = metrics
        self._registry = Registry(identity.config_digest, lambda info: connect(info, self))
        signals = Signals(settings, clock.now())
        self._ledger = Ledger(metrics, keeping.Keeping(settings, metrics, signals, clock.now))
        self._gate = Gate(settings, metrics, signals)
        self._planner = planner = planner_of(settings, self._registry, metrics, self._gate)
        retries = RetryBudget(burst=settings.router.max_inflight_requests)
        self._placing = Placing(planner, retries, metrics)
        parts = (self._registry, self._ledger, planner, self._gate)
        self.door = Door(settings, clock, *parts)
        self.window = Window(identity.router_id, self.door, *parts)
        self._measuring = Measuring(settings, signals, *parts)
        splits = self._ledger.splits
        collectors.register(
            metrics, self._registry, lambda: planner.figures(clock.now()), self.signals, splits
        )
        self._tasks = Tasks("heart")
        self._ticker = Ticker(self._tasks, clock, self.tick)
        self._front: FrontPort
        self._viewed_at = clock.now()
        self._delivery = Delivery()
        self._watch = Watch(settings.router.worker_silence_s)

    def attach(self, front: FrontPort) -> None:
        """Sets the front end, which is itself made with the heart in hand."""
        self._front = front

    def start(self) -> None:
        """Begins to watch deadlines, in the running event loop."""
        self._ticker.start()

    async def aclose(self) -> None:
        """Ends every request with DRAINING and closes every link, which frees the workers."""
        self.door.close()
        for one in self._ledger:
            self._fail(one, BatonError(Reason.DRAINING, "The router stops."))
        await asyncio.gather(*(peer.link.aclose() for peer in self._registry.clear()))
        await self._tasks.aclose()

    # --- the front end's side ---------------------------------------------------------------------

    def check_ready(self) -> None:
        """Raises BatonError while no request at all could be served."""
        self.door.check_ready()

    def admit(self, sequences: int = 1, caller: Caller = ANYBODY) -> None:
        """See `HeartPort`: DRAINING, QUEUE_FULL, or why no decode worker takes requests."""
        self.door.admit(sequences, caller, self._clock.now())

    def submit(self, request: EngineRequest) -> None:
        """See `HeartPort`. Besides what `admit` raises: DUPLICATE_ID."""
        now = self._clock.now()
        words = self.door.plan(resumed(request, request.sent), now)
        self._placing.came()
        tokens = self._front.counter(request.request_id)
        self._ledger.enter(request, now, self.door.limit_s(request), tokens)
        self._carry_out(words)

    def abort(self, request_ids: Sequence[RequestId]) -> None:
        """See `HeartPort`. The front end is not told of the end of what it aborts."""
        if self._delivery.holds(request_ids):
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
        self._watch.keep(peer.info.worker_id for peer in self._registry.peers())
        self._viewed_at = self._clock.now()
        self._metrics.workers_refused(len(changes.refused))
        self._planner.follow(self._registry.peers(), changes.gone)
        for peer in changes.gone:
            self._lose(peer, "left the cluster")
            self._tasks.spawn(peer.link.aclose(), f"close {peer.info.worker_id}")

    def on_frame(self, worker_id: WorkerId, frame: pb.StepFrame) -> None:
        """See `LinkEvents`."""
        peer = self._registry.get(worker_id)
        if peer is None:
            return
        self._metrics.frame(peer.info.role)
        peer.heard(self._clock.now(), frame.load if frame.HasField("load") else None)
        if frame.HasField("transfer"):
            peer.transfer = frame.transfer
        for prefilled in frame.prefilled:
            self._prefilled(peer, prefilled)
        if frame.outputs:
            self._deliver(peer, frame)
        for ended in frame.ended:
            self._leg_ended(peer, ended)
        self._carry_out(self._planner.heard(peer, frame, self._clock.now()))

    def on_link_lost(self, worker_id: WorkerId, why: str) -> None:
        """See `LinkEvents`."""
        peer = self._registry.get(worker_id)
        if peer is not None:
            self._metrics.link_lost(peer.info.role)
            _log.warning("lost a worker", extra={"worker": worker_id, "cause": why})
            self._lose(peer, why)

    def tick(self, now: float) -> None:
        """Ends what is out of time; call it a few times per second."""
        for request_id in self._ledger.due(now):
            self._feed_id(request_id, life.DeadlinePassed(cause="tick", at_s=now))
        self._carry_out([*self._planner.tick(now), *self._placing.tick(now)])
        self._watch.begins(now)
        for peer in self._registry.peers():
            self._look_at(peer, now)
        self._measuring.look(now)

    # --- the operator's side ----------------------------------------------------------------------

    def drain(self) -> None:
        """Takes nothing new from now on; what runs goes on."""
        self.door.close()

    @property
    def inflight(self) -> int:
        """Requests inside the router."""
        return len(self._ledger)

    async def idle(self) -> None:
        """Returns once no request is inside the router."""
        await self._ledger.idle()

    def status(self) -> dict[str, Any]:
        """The router now, in what JSON can hold. Ages in seconds."""
        return self.window.status(self._clock.now(), self._viewed_at)

    def signals(self) -> RouterSignals:
        """What it measured for scaling, a moment ago; any thread may ask."""
        return self._measuring.seen(self._clock.now())

    def story(self, name: str, tenant: str | None = None, whole: bool = False) -> str | None:
        """The life of a request, running or lately ended; part of its id will do unless `whole`."""
        return self._ledger.story(name, tenant, whole)

    def explain(self, request_id: str, tenant: str | None = None) -> list[dict[str, Any]]:
        """Why a request went where it went, newest last; part of its id will do."""
        return self._ledger.explain(request_id, tenant)

    # --- hearing workers --------------------------------------------------------------------------

    def _prefilled(self, peer: Peer, news: pb.Prefilled) -> None:
        if news.leg_id in peer.answering:
            self._first_token(peer, peer.answering[news.leg_id], news)
            return
        request_id = peer.prefilling.get(news.leg_id)
        if request_id is not None:
            now = self._clock.now()
            self._planner.prefilled(request_id, news.cached_tokens, now)
            self._feed_id(request_id, events.prefilled(peer, news, now))

    def _first_token(self, peer: Peer, request_id: RequestId, news: pb.Prefilled) -> None:
        one = self._ledger.get(request_id)
        if one is not None and one.state.phase is not life.Phase.STREAMING:
            now = self._clock.now()
            self._ledger.streams(one, peer, now)
            self._gate.answered(request_id, now)
            self._feed(one, events.tokens_came(peer, news, now))

    def _deliver(self, peer: Peer, frame: pb.StepFrame) -> None:
        ended = self._delivery.deliver(self._front, frame.outputs, peer.answering)
        for request_id, engine_done in ended:
            self._finish(request_id, peer, engine_done=engine_done)

    def _finish(self, request_id: RequestId, peer: Peer, *, engine_done: bool) -> None:
        one = self._ledger.get(request_id)
        if one is not None:
            now = self._clock.now()
            self._feed(one, events.finished(one.state, peer, now, engine_done=engine_done))

    def _leg_ended(self, peer: Peer, news: pb.Ended) -> None:
        request_id = peer.answering.get(news.leg_id) or peer.prefilling.get(news.leg_id)
        if request_id is not None:
            self._feed_id(request_id, events.leg_ended(peer, news, self._clock.now()))

    def _look_at(self, peer: Peer, now: float) -> None:
        verdict = self._watch.look_at(peer, now)
        if verdict is Verdict.LOSE:
            legs = [*peer.answering, *peer.prefilling]
            self._lose(peer, "it is silent")
            # It may only be stopped: what it still has is of no use to anybody.
            peer.link.send(wire.abort_message(legs))

    def _lose(self, peer: Peer, why: str) -> None:
        now = self._clock.now()
        peer.down()
        self._watch.lost(peer.info.worker_id, now)
        event = events.lost(peer.info.worker_id, why, now)
        for request_id in peer.requests():
            self._feed_id(request_id, event)
        self._carry_out(self._planner.lost(peer, now))

    # --- events in, commands out ------------------------------------------------------------------

    def _carry_out(self, words: Iterable[planning.Word]) -> None:
        now = self._clock.now()
        for word in words:
            match word:
                case planning.Chosen():
                    self._choose(word, now)
                case planning.Kept():
                    self._feed_id(word.request_id, life.Held(cause=word.why, at_s=now))
                case planning.Refused():
                    self._feed_id(word.request_id, events.unplaced(word.error, now))
                case planning.Tell():
                    self._send(word.worker_id, word.message)

    def _choose(self, word: planning.Chosen, now: float) -> None:
        one = self._ledger.get(word.request_id)
        if one is not None:
            direct.choose(one, word, self._registry.get(word.plan.decode))
            self._metrics.chose(word.plan.reason)
            self._feed(one, life.Planned(cause=word.plan.told(), at_s=now, plan=word.plan))

    def _place_again(self, one: Life, command: life.PlaceAgain) -> None:
        now = self._clock.now()
        one.breaks(now)
        sent = self._front.sent(one.request.request_id)
        self._carry_out(self._placing.again(one, command, sent, now))

    def _feed_id(self, request_id: RequestId, event: life.Event) -> None:
        one = self._ledger.get(request_id)
        if one is not None:
            self._feed(one, event)

    def _feed(self, one: Life, event: life.Event) -> None:
        before = one.state
        try:
            one.state, commands = flow.step(before, event)
        except events.FAULTS:
            _log.exception("fault in a request", extra={"request_id": one.request.request_id})
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
                case life.PlaceAgain():
                    self._place_again(one, command)
                case life.Fail():
                    self._fail(one, events.error_of(command))
                case life.Close():
                    self._leave(one, command.reason)

    def _submit_leg(self, one: Life, command: life.SubmitLeg) -> None:
        leg, now = life.OpenLeg(command.leg_id, command.worker_id), self._clock.now()
        if leg not in one.state.legs:
            # An earlier command of the same step has failed and ended the request.
            return
        peer = self._registry.get(command.worker_id)
        if peer is None or not peer.up:
            self._feed(one, events.lost(command.worker_id, "not connected", now))
            return
        computes = leg.leg_id.leg is not Leg.DECODE
        peer.took(leg, one.request.prompt_tokens, one.route.work_s if computes else 0.0)
        left_s = one.deadline.remaining_s(now)
        other = self._registry.get(one.state.other_end(command.kind))
        endpoint = b"" if other is None else other.info.transfer_endpoint
        peer.link.send(wire.submit_message(command, one.request, left_s, endpoint, one.route))

    def _send(self, worker_id: WorkerId, message: pb.RouterMessage) -> None:
        peer = self._registry.get(worker_id)
        if peer is not None and peer.up:
            peer.link.send(message)

    def _fail(self, one: Life, error: BatonError) -> None:
        # It leaves first, because the front end may answer with aborts of its own.
        if self._leave(one, error.reason):
            self._front.fail(one.request.request_id, error)

    def _leave(self, one: Life, reason: Reason | None) -> bool:
        now = self._clock.now()
        self._placing.left(one.request.request_id)
        self._gate.left(one.request.request_id, now)
        return self._ledger.leave(one, reason, now)
