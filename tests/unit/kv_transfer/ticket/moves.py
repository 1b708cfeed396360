"""The moves of the model: what two engines, a network and a supervisor may do, in any order.

A move that is not possible now does nothing. What must never happen raises BrokenRuleError from
within the move.
"""

from __future__ import annotations

from collections import deque

from kv_transfer.ticket import words as w
from kv_transfer.ticket.codec import decode
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import Patience, TargetState
from tests.unit.kv_transfer.ticket.hands import Hands
from tests.unit.kv_transfer.ticket.parts import Decode, Flight, Job, Prefill, Step, rule

DEADLINE_S, HOLD_S, STEPS_AHEAD = 10.0, 6.0, 2
PATIENCE = Patience(silence_s=12.0, grace_s=1.0, gap_s=0.5, gap_max_s=4.0, asks_max=2)


class Moves(Hands):
    """Data may be corrupted on its way only where checksums are insisted on."""

    # --- the flow ---------------------------------------------------------------------------------

    def submit(self, ticket: int, total: int, held: int, gone: str = "") -> None:
        """A new attempt for this request, on both ends at once; one leg may never arrive."""
        epoch = sum(key.ticket_id == f"t{ticket}" for key in self.totals)
        key = TicketKey(f"t{ticket}", epoch)
        self.totals[key] = total
        if gone != "prefill":
            self.prefill.jobs[key] = Job(key, total)
            self._source(self.prefill, key)
            self._to_source(self.prefill, key, w.Tick(self.now_s))
        if gone != "decode":
            state = TargetState(key, self.layers, self.rank, self.checking, PATIENCE)
            self.decode.targets[key] = state
            self.decode.peer[key] = self.prefill
            self.wanted.append((key, min(held, total)))

    # --- the prefill engine -----------------------------------------------------------------------

    def schedule(self, pick: int, count: int) -> None:
        """Schedule the next positions of one request; data is there when the step completes."""
        jobs = [j for j in self.prefill.jobs.values() if not j.done and len(j.blocks) < j.total]
        if jobs:
            self._schedule(jobs[pick % len(jobs)], count)

    def _schedule(self, job: Job, count: int) -> None:
        proc, first = self.prefill, len(job.blocks)
        if len(proc.steps) + len(proc.reports) >= STEPS_AHEAD:
            return
        job.blocks += proc.pool.take(job.key, min(count, job.total - first))
        if len(job.blocks) == first:
            return
        epoch, blocks = proc.sources[job.key].source_epoch, tuple(job.blocks)
        proc.steps.append(Step(job.key, epoch, blocks, first))
        self.begun.add(job.key)
        self._to_source(proc, job.key, w.Begun(self.now_s))
        # The order in which vLLM tells: the blocks are known before any data is in them.
        covered = w.Covered(epoch, blocks, job.computed, self.now_s, self.layers)
        self._to_source(proc, job.key, covered)

    def layer(self, tell: bool = True) -> None:
        """The oldest step computes its next layer, even into blocks that were taken away since."""
        proc = self.prefill
        if not proc.steps:
            return
        now = proc.steps[0]
        for position in range(now.first, len(now.blocks)):
            data = (now.key, position, now.layers)
            proc.pool.content[now.blocks[position]][now.layers] = data
        now.layers += 1
        if now.layers == self.layers:
            proc.reports.append(proc.steps.popleft())
        elif tell:
            self._cover(now)

    def complete(self) -> None:
        """The oldest step computes all its layers, and tells nothing of them."""
        for _ in range(self.layers - self.prefill.steps[0].layers if self.prefill.steps else 0):
            self.layer(tell=False)

    def report(self) -> None:
        """The oldest completed step becomes known."""
        if self.prefill.reports:
            self._cover(self.prefill.reports.popleft())

    def _cover(self, step: Step) -> None:
        proc, blocks = self.prefill, step.blocks
        job = proc.jobs.get(step.key)
        if job and step.source_epoch == proc.sources[step.key].source_epoch:
            # Further steps are scheduled by now: it has more blocks than have been computed.
            blocks = tuple(job.blocks)
            if step.layers == self.layers:
                job.computed = len(step.blocks)
        computed, layers = len(step.blocks), step.layers
        covered = w.Covered(step.source_epoch, blocks, computed, self.now_s, layers)
        self._to_source(proc, step.key, covered)

    def finish(self, pick: int) -> None:
        """A request whose prompt is computed finishes and keeps its blocks until Release."""
        jobs = [j for j in self.prefill.jobs.values() if not j.done and j.computed == j.total]
        if jobs:
            job = jobs[pick % len(jobs)]
            job.done, job.done_s = True, self.now_s
            self._to_source(self.prefill, job.key, w.PromptDone())

    def preempt(self, pick: int) -> None:
        jobs = [j for j in self.prefill.jobs.values() if not j.done and j.blocks]
        if jobs:
            self._preempt(jobs[pick % len(jobs)])

    def _preempt(self, job: Job) -> None:
        self.prefill.pool.give(job.key, job.blocks)
        job.blocks, job.computed = [], 0
        self._to_source(self.prefill, job.key, w.Preempted())

    def drop(self, pick: int, held_only: bool = False) -> None:
        """The engine aborts a request, or one was held too long."""
        jobs = [j for j in self.prefill.jobs.values() if j.done or not held_only]
        if jobs:
            job = jobs[pick % len(jobs)]
            job.done = True
            self._to_source(self.prefill, job.key, w.Dropped("aborted"))

    # --- writes -----------------------------------------------------------------------------------

    def land(self, pick: int, corrupt: bool = False) -> None:
        """A piece of a write arrives in decode's memory, read from prefill's memory now."""
        flights = [(p, f) for p in [self.prefill, *self.dying] for f in p.flights]
        if flights:
            proc, flight = flights[pick % len(flights)]
            self._land(proc, flight, pick, corrupt)

    def _land(self, proc: Prefill, flight: Flight, pick: int, corrupt: bool = False) -> None:
        i, layer = flight.left.pop(pick % len(flight.left))
        into = flight.post.targets[i]
        there = flight.memory is self.decode.pool
        if there:
            owner = set(flight.memory.holders[into])
            rule(owner == {flight.key}, f"{flight.key} writes into a block of {owner or 'nobody'}")
            data = proc.pool.content[flight.post.sources[i]][layer]
            flight.memory.content[into][layer] = None if corrupt else data
            good = (flight.key, flight.post.first + i, layer)
            rule(data == good, f"{flight.key} sent {data} as {good[1:]}")
        if not flight.left:
            proc.flights.remove(flight)
            (proc.doubted if flight.doubted else proc.landed).append(flight)
            # Nobody knows whether a doubted write still tells that it is complete.
            if there and (pick % 2 or not flight.doubted):
                self._send(self.decode, flight.notice)

    def done(self, pick: int) -> None:
        """Prefill learns that a write is done."""
        landed = self.prefill.landed
        if landed:
            flight = landed.pop(pick % len(landed))
            self._to_source(self.prefill, flight.key, w.WriteDone(flight.post.post_id))

    def fail(self, pick: int) -> None:
        """A write fails for good, perhaps half of it landed."""
        flights = [f for f in self.prefill.flights if not f.doubted]
        if flights:
            flight = flights[pick % len(flights)]
            self.prefill.flights.remove(flight)
            self._to_source(self.prefill, flight.key, w.WriteFailed(flight.post.post_id, "broken"))

    def doubt(self, pick: int) -> None:
        """A write fails, and its rest lands later or never."""
        flights = [f for f in self.prefill.flights if not f.doubted]
        if flights:
            flight = flights[pick % len(flights)]
            flight.doubted = True
            self._to_source(self.prefill, flight.key, w.WriteDoubted(flight.post.post_id, "error"))

    # --- the decode engine ------------------------------------------------------------------------

    def allocate(self) -> None:
        """The first in the queue of those that may have blocks gets them, if there is room."""
        proc = self.decode
        for key, held in self.wanted:
            if key in proc.admitted or held >= self.totals[key]:
                if blocks := proc.pool.take(key, self.totals[key]):
                    self.wanted.remove((key, held))
                    self._allocate(key, blocks, held)
                return

    def _allocate(self, key: TicketKey, blocks: list[int], held: int) -> None:
        proc, total = self.decode, self.totals[key]
        proc.blocks[key] = blocks
        for position in range(held):
            data: list[object] = [(key, position, layer) for layer in range(self.layers)]
            proc.pool.content[blocks[position]] = data
        if held < total:
            event = w.Allocated(held, tuple(blocks[held:]), total, self.now_s, DEADLINE_S)
            self._to_target(key, event)
        else:
            proc.running.add(key)
            self._to_target(key, w.NothingToLoad())

    def verify(self, pick: int) -> None:
        verifies, pool = self.decode.verifies, self.decode.pool
        if verifies:
            key, ask = verifies.pop(pick % len(verifies))
            area = range(ask.layer, ask.layer + ask.layers)
            good = [[(key, ask.first + i, layer) for layer in area] for i in range(len(ask.blocks))]
            same = [[pool.content[block][layer] for layer in area] for block in ask.blocks] == good
            self._to_target(key, w.Verified(ask.verify_id, same))

    def abort(self, pick: int) -> None:
        """The decode engine aborts a request, wherever it is."""
        keys = sorted(self.decode.targets)
        if keys:
            key = keys[pick % len(keys)]
            self.wanted = deque(item for item in self.wanted if item[0] != key)
            self._stop_running(key)
            self._to_target(key, w.Aborted())

    def preempt_decode(self, pick: int) -> None:
        """A running request loses its blocks; when asked again it loads nothing."""
        keys = sorted(self.decode.running)
        if keys:
            self._stop_running(keys[pick % len(keys)])
            self._to_target(keys[pick % len(keys)], w.NothingToLoad())

    def end(self, pick: int) -> None:
        """A running request has its answer."""
        keys = sorted(self.decode.running)
        if keys:
            self._stop_running(keys[pick % len(keys)])

    # --- network, time, death ---------------------------------------------------------------------

    def deliver(self, pick: int, keep: bool = False) -> None:
        """Any message arrives, at every attempt of its request; with `keep` it will come again."""
        if not self.net:
            return
        i = pick % len(self.net)
        proc, data = self.net[i] if keep else self.net.pop(i)
        if not proc.alive:
            return
        message = decode(data)
        unknown = isinstance(proc, Prefill) and message.key not in proc.sources
        if unknown:
            self._source(proc, message.key)
        ends = proc.targets if isinstance(proc, Decode) else proc.sources
        for key in [k for k in ends if k.ticket_id == message.key.ticket_id]:
            self._hand(proc, key, message)
        if unknown:
            self._to_source(proc, message.key, w.Dropped("no such prefill leg"))

    def lose(self, pick: int) -> None:
        if self.net:
            self.net.pop(pick % len(self.net))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        proc = self.prefill
        for key in list(proc.sources):
            self._to_source(proc, key, w.Tick(self.now_s))
        for job in list(proc.jobs.values()):
            unknown = proc.sources[job.key].register is None
            if job.done and unknown and self.now_s - job.done_s >= HOLD_S:
                self._to_source(proc, job.key, w.Dropped("no target registered in time"))
        for key in list(self.decode.targets):
            self._to_target(key, w.Tick(self.now_s))

    def kill_prefill(self) -> None:
        """Its writes may still land until it is reaped."""
        self.prefill.alive = False
        self.dying.append(self.prefill)
        self.prefill = Prefill(self.layers)

    def reap(self) -> None:
        """The supervisor reports a death, after the fabric is quiet."""
        if self.dying:
            dead = self.dying.pop(0)
            dead.flights.clear()
            for key in [k for k, peer in self.decode.peer.items() if peer is dead]:
                self._to_target(key, w.PeerDead())

    def obey(self) -> None:
        """The supervisor does what it was asked for."""
        if self.kills and self.kills.pop(0) is self.prefill:
            self.kill_prefill()

    def kill_decode(self) -> None:
        """Writes under way hit memory that is gone, and fail; what was in doubt is over."""
        self.decode.alive = False
        self.old.append(self.decode)
        self.decode = Decode(self.layers)
        self.wanted.clear()
        proc = self.prefill
        flights, proc.flights, proc.doubted = [*proc.flights, *proc.doubted], [], []
        for key in list(proc.sources):
            self._to_source(proc, key, w.PeerDead())
        for flight in flights:
            failed = w.WriteFailed(flight.post.post_id, "disconnected")
            self._to_source(proc, flight.key, failed)
