"""The one thread that talks to NIXL: drives both ends of every ticket of this engine.

Orders come in from the engine's own thread, results are fetched by it; neither waits. The agent,
the tickets and the posts belong to this thread.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable

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
    Cover,
    Decline,
    Finish,
    OpenSource,
    OpenTarget,
    Order,
    Preempt,
)
from kv_transfer.receiving import Listener, Receiving
from kv_transfer.sending import Sending
from kv_transfer.ticket import codec
from kv_transfer.ticket import words as w

_log = logging.getLogger("baton.kv_transfer")

# Each round takes the interpreter from the engine's thread for a moment: as rarely as will do. A
# write moves while either end is polled, so those with writes to expect poll more often.
_NAP_MOVING_S = 0.001
_NAP_IDLE_S = 0.005
_TICK_S = 0.05


class Mover:
    """Owns the agent. `start` it, feed it orders, fetch results, `stop` it."""

    def __init__(
        self,
        agent: AgentPort,
        limits: MoverLimits,
        clock: Clock,
        memory: Memory,
    ) -> None:
        self._agent = agent
        self._clock = clock
        self.counters = Counters()
        self._sending = Sending(agent, limits, clock, memory, self.counters, self._report_sent)
        listener = Listener(self._report_received, self._report_failed)
        self._receiving = Receiving(agent, limits, clock, memory, self.counters, listener)
        self._inbox: deque[Order] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._results = Results()
        self._news = threading.Event()
        self._ticked_at = clock.now()
        self._thread = threading.Thread(target=self._run, name="kv mover", daemon=True)

    # -- called from the engine's thread

    def start(self) -> None:
        self._thread.start()

    def feed(self, orders: Iterable[Order]) -> None:
        self._inbox.extend(orders)
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

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, which closes the agent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # -- the thread

    def _run(self) -> None:
        # Threads inherit the engine's binding to its cores; the copies belong beside, not on them.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        while not self._stopping:
            self.turn()
            self._wake.wait(self._nap_s())
            self._wake.clear()
        self._agent.close()

    def turn(self) -> None:
        """One round: orders, notices, writes, time. Never blocks."""
        while self._inbox:
            self._carry_out(self._inbox.popleft())
        for peer, message in self._agent.notices():
            self._hear(peer, message)
        self._sending.look_after_writes()
        now = self._clock.now()
        if now - self._ticked_at >= _TICK_S:
            self._ticked_at = now
            self._sending.tick(now)
            self._receiving.tick(now)
            self._mourn()

    def _mourn(self) -> None:
        for peer in self._agent.dead({*self._sending.peers, *self._receiving.peers}):
            _log.warning("peer %s is dead", peer)
            self._sending.peer_dead(peer)
            self._receiving.peer_dead(peer)
            self._agent.forget(peer)

    def _nap_s(self) -> float:
        moving = self._sending.writes or self._receiving.tickets
        return _NAP_MOVING_S if moving else _NAP_IDLE_S

    def _carry_out(self, order: Order) -> None:
        match order:
            case OpenSource():
                self._sending.open(order)
            case OpenTarget():
                self._receiving.open(order)
            case Cover() | Preempt() | Finish():
                self._sending.order(order)
            case Allocate() | Decline():
                self._receiving.order(order)
            case Abort():
                self._sending.order(order)
                self._receiving.order(order)

    def _hear(self, peer: str, data: bytes) -> None:
        if data.startswith(HELLO):
            connect(self._agent, data.removeprefix(HELLO))
            return
        try:
            message = codec.decode(data)
        except ValueError as error:
            _log.warning("unreadable message of %s: %s", peer, error)
            return
        match message:
            case w.Register() | w.Withdraw():
                self._sending.hear(peer, message)
            case w.Written() | w.Closed():
                self._receiving.hear(message)

    # -- results

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
