"""The one thread that talks to NIXL: drives both ends of every ticket of this engine.

Orders come in from the engine's own thread, results are fetched by it; neither waits. The agent,
the tickets and the posts belong to this thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from baton.clock import Clock
from kv_transfer.moving import (
    HELLO,
    AgentPort,
    Counters,
    Memory,
    MoverLimits,
    Results,
    connect,
)
from kv_transfer.orders import (
    Abort,
    Allocate,
    Begin,
    Decline,
    Done,
    Finish,
    OpenSource,
    OpenTarget,
    Order,
    PeersDead,
    Preempt,
)
from kv_transfer.pair_tests import PairTests
from kv_transfer.receiving import Listener, Receiving
from kv_transfer.report import TransferReport
from kv_transfer.self_test import Way
from kv_transfer.sending import Sending
from kv_transfer.ticket import codec
from kv_transfer.ticket import messages as m

_log = logging.getLogger("baton.kv_transfer")

# Each round takes the interpreter from the engine's thread for a moment: as rarely as will do. A
# write moves while either end is polled, so those with writes under way poll more often.
_NAP_MOVING_S = 0.001
_NAP_WAITING_S = 0.003
_NAP_IDLE_S = 0.005
_TICK_S = 0.05
_NAP_TESTING_S = 0.0002
_EVERYBODY_EACH = 20


class Mover:
    """Owns the agent. `start` it, feed it orders, fetch results, `stop` it. `enter` is the first
    thing its thread does."""

    def __init__(
        self,
        agent: AgentPort,
        limits: MoverLimits,
        clock: Clock,
        memory: Memory,
        enter: Callable[[], None] = lambda: None,
    ) -> None:
        self._enter = enter
        self._agent = agent
        self._memory = memory
        self._clock = clock
        self.counters = Counters()
        self._tests = _tests(agent, limits, clock)
        self._sending = Sending(agent, limits, clock, memory, self.counters, self._report_sent)
        self._sending.tests = self._tests
        listener = Listener(self._report_admitted, self._report_received, self._report_failed)
        self._receiving = Receiving(agent, limits, clock, memory, self.counters, listener)
        self._inbox: deque[Order] = deque()
        self._computing: deque[Done] = deque()
        """Layers whose computation the device has not finished, in the order of their launch."""
        self._wake = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._results = Results()
        self._news = threading.Event()
        self._report = TransferReport()
        self._rounds = 0
        self._ticked_at = clock.now()
        self._thread = threading.Thread(target=self._run, name="kv mover", daemon=True)

    # -- called from the engine's thread

    def start(self) -> None:
        self._thread.start()

    def feed(self, orders: Iterable[Order], *, wake: bool = True) -> None:
        """Without `wake` the orders wait for the next round."""
        self._inbox.extend(orders)
        if wake:
            self._wake.set()

    def take(self, wait_s: float = 0.0) -> Results:
        """Results since the last call; waits for the first one at most this long.

        Raises RuntimeError when the thread has died of an error.
        """
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping:
            # Without it no transfer ends; an engine that dies is noticed and replaced.
            raise RuntimeError("the thread that moves KV has died")
        if wait_s > 0:
            self._news.wait(wait_s)
        with self._lock:
            taken, self._results = self._results, Results()
            self._news.clear()
        return taken

    def report(self) -> TransferReport:
        """Totals and states, at most some ticks old."""
        with self._lock:
            return self._report

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, which closes the agent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # -- the thread

    def _run(self) -> None:
        self._enter()
        while not self._stopping:
            self.turn()
            self._wake.wait(self._nap_s())
            self._wake.clear()
        self._tests.close()
        self._agent.close()

    def turn(self) -> None:
        """One round: orders, notices, writes, time. Never blocks."""
        while self._inbox:
            self._carry_out(self._inbox.popleft())
        self._cover()
        for peer, message in self._agent.notices():
            self._hear(peer, message)
        self._sending.look_after_writes()
        self._tests.turn()
        now = self._clock.now()
        if now - self._ticked_at >= _TICK_S:
            self._ticked_at = now
            self._sending.tick(now)
            self._receiving.tick(now)
            self._mourn()
            self._write_report()
            if self._sending.is_hopeless(now):
                # Only this process's death proves where such a write does not land.
                raise RuntimeError("a write has been in doubt for too long")

    def _cover(self) -> None:
        """Whatever the device has finished; of several layers of one step only the last counts."""
        while self._computing and _is_ready(self._computing[0]):
            done = self._computing.popleft()
            later = self._computing[0] if self._computing else None
            if later is not None and later.covers is done.covers and _is_ready(later):
                continue
            for cover in done.covers:
                self._sending.cover(cover, done.layers)

    def _mourn(self) -> None:
        for peer in self._agent.dead(self._watched()):
            _log.warning("peer %s is dead", peer)
            self._sending.peer_dead(peer)
            self._receiving.peer_dead(peer)
            self._tests.forget(peer)
            self._agent.forget(peer)

    def _watched(self) -> set[str]:
        """Peers of open tickets, and now and then all, or the dead among them would pile up."""
        self._rounds = (self._rounds + 1) % _EVERYBODY_EACH
        if self._rounds == 0:
            return self._agent.peers
        return self._sending.peers | self._receiving.peers

    def _write_report(self) -> None:
        counters, ends = self.counters, (("source", self._sending), ("target", self._receiving))
        report = TransferReport(
            bytes_written=counters.bytes_written,
            writes=counters.writes,
            descriptors=counters.descriptors,
            received=counters.received,
            ended=dict(counters.ended),
            late_notices=counters.late_notices,
            transfer=counters.transfer.times,
            exposed=counters.exposed.times,
            tickets={f"{n}.{phase}": k for n, end in ends for phase, k in end.phases.items()},
            fenced_blocks=self._receiving.fenced_blocks,
            quarantined_blocks=self._receiving.quarantined_blocks,
            accused=tuple(sorted(self._receiving.accused)),
            gb_per_s=self._tests.gb_per_s,
            backlog_s=self._sending.backlog_s,
        )
        with self._lock:
            self._report = report

    def _nap_s(self) -> float:
        if self._tests.busy:
            return _NAP_TESTING_S
        if self._sending.writes or self._receiving.is_written:
            return _NAP_MOVING_S
        waiting = self._sending.tickets or self._receiving.tickets
        return _NAP_WAITING_S if waiting else _NAP_IDLE_S

    def _carry_out(self, order: Order) -> None:
        match order:
            case OpenSource():
                self._sending.open(order)
            case OpenTarget():
                self._receiving.open(order)
            case PeersDead():
                self._agent.declare_dead(order.agents)
            case Done():
                self._computing.append(order)
            case Begin() | Preempt() | Finish():
                self._sending.order(order)
            case Allocate() | Decline():
                self._receiving.order(order)
            case Abort():
                self._sending.order(order)
                self._receiving.order(order)

    def _hear(self, peer: str, data: bytes) -> None:
        if data.startswith(HELLO):
            connect(self._agent, data.removeprefix(HELLO), self._memory)
            return
        if self._tests.hear(peer, data):
            return
        try:
            message = codec.decode(data)
        except ValueError as error:
            _log.warning("unreadable message of %s: %s", peer, error)
            return
        match message:
            case m.Register() | m.Withdraw():
                self._sending.hear(peer, message)
            case m.Written() | m.Closed() | m.Alive():
                self._receiving.hear(message)

    # -- results

    def _report_admitted(self, request_id: str) -> None:
        with self._lock:
            self._results.admitted.add(request_id)
            self._news.set()

    def _report_sent(self, request_id: str) -> None:
        with self._lock:
            self._results.sent.add(request_id)
            self._news.set()

    def _report_received(self, request_id: str) -> None:
        with self._lock:
            self._results.received.add(request_id)
            self._news.set()

    def _report_failed(self, request_id: str, reason: str) -> None:
        _log.warning("KV of %s was not handed over: %s", request_id, reason)
        with self._lock:
            self._results.failed[request_id] = reason
            self._news.set()


def _tests(agent: AgentPort, limits: MoverLimits, clock: Clock) -> PairTests:
    memory = agent.endpoint().layout.memory

    def way(peer: str) -> Way:
        return Way(peer, limits.ucx_tls, memory, agent.same_host(peer))

    return PairTests(agent, clock, limits.tests, way)


def _is_ready(done: Done) -> bool:
    return done.ready is None or done.ready()
