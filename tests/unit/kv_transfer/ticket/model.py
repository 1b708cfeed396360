"""A model of two engines, their memory and the network between them, around real ticket machines.

Each method that does something is a move that production can make, in any order. A move that is
not possible now does nothing. What must never happen raises BrokenRuleError from within the move.
"""

from __future__ import annotations

from collections import deque

from kv_transfer.ticket import source, target
from kv_transfer.ticket import words as w
from kv_transfer.ticket.codec import decode, encode
from kv_transfer.ticket.states import Patience, SourceState, TargetState
from kv_transfer.ticket.words import TicketKey
from tests.unit.kv_transfer.ticket.hands import Hands
from tests.unit.kv_transfer.ticket.parts import BLOCKS, Decode, Job, Prefill, Step, rule

DEADLINE_S, STEPS_AHEAD = 10.0, 2
PATIENCE = Patience(grace_s=1.0, gap_s=0.5, gap_max_s=4.0, asks_max=2)


class World(Hands):
    """Everything. Data may be corrupted on its way only where checksums are insisted on."""

    # --- moves: the flow --------------------------------------------------------------------------

    def submit(self, ticket: int, total: int, held: int) -> None:
        """A new attempt for this request, on both ends at once."""
        epoch = sum(key.ticket_id == f"t{ticket}" for key in self.totals)
        key = TicketKey(f"t{ticket}", epoch)
        self.totals[key] = total
        self.prefill.jobs[key] = Job(key, total)
        self._source(self.prefill, key)
        self.decode.targets[key] = TargetState(key, checking=self.checking, patience=PATIENCE)
        self.decode.peer[key] = self.prefill
        self.wanted.append((key, min(held, total)))

    # --- moves: the prefill engine ----------------------------------------------------------------

    def schedule(self, pick: int, count: int) -> None:
        """Schedule the next positions of one request; data is there when the step completes."""
        proc = self.prefill
        jobs = [j for j in proc.jobs.values() if not j.done and len(j.blocks) < j.total]
        if not jobs or len(proc.steps) + len(proc.reports) >= STEPS_AHEAD:
            return
        job = jobs[pick % len(jobs)]
        first = len(job.blocks)
        job.blocks += proc.pool.take(job.key, min(count, job.total - first))
        if len(job.blocks) > first:
            # The order in which vLLM tells: the blocks are known before any data is in them.
            epoch = proc.sources[job.key].source_epoch
            proc.steps.append(Step(job.key, epoch, tuple(job.blocks), first))
            self._to_source(
                proc, job.key, w.Covered(epoch, tuple(job.blocks), job.computed, self.now_s)
            )

    def complete(self) -> None:
        """The oldest step writes its data, even into blocks that were taken away since."""
        proc = self.prefill
        if not proc.steps:
            return
        done = proc.steps.popleft()
        for position in range(done.first, len(done.blocks)):
            proc.pool.content[done.blocks[position]] = (done.key, position)
        proc.reports.append(done)

    def report(self) -> None:
        """The oldest completed step becomes known."""
        proc = self.prefill
        if not proc.reports:
            return
        done = proc.reports.popleft()
        job = proc.jobs.get(done.key)
        blocks = done.blocks
        if job and done.source_epoch == proc.sources[done.key].source_epoch:
            # Further steps are scheduled by now: it has more blocks than have been computed.
            job.computed, blocks = len(done.blocks), tuple(job.blocks)
        covered = w.Covered(done.source_epoch, blocks, len(done.blocks), self.now_s)
        self._to_source(proc, done.key, covered)

    def finish(self, pick: int) -> None:
        """A request whose prompt is computed finishes and keeps its blocks until Release."""
        jobs = [j for j in self.prefill.jobs.values() if not j.done and j.computed == j.total]
        if jobs:
            job = jobs[pick % len(jobs)]
            job.done = True
            self._to_source(self.prefill, job.key, w.PromptDone())

    def preempt(self, pick: int) -> None:
        jobs = [j for j in self.prefill.jobs.values() if not j.done and j.blocks]
        if jobs:
            job = jobs[pick % len(jobs)]
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

    # --- moves: writes ----------------------------------------------------------------------------

    def land(self, pick: int, corrupt: bool = False) -> None:
        """One position of a write arrives in decode's memory, read from prefill's memory now."""
        flights = [(p, f) for p in [self.prefill, *self.dying] for f in p.flights]
        if not flights:
            return
        proc, flight = flights[pick % len(flights)]
        i = flight.left.pop()
        position, into = flight.post.first + i, flight.post.targets[i]
        if flight.memory is self.decode.pool:
            owner = set(flight.memory.holders[into])
            rule(owner == {flight.key}, f"{flight.key} writes into a block of {owner or 'nobody'}")
            data = proc.pool.content[flight.post.sources[i]]
            flight.memory.content[into] = None if corrupt else data
            good = data == (flight.key, position)
            rule(good, f"{flight.key} sent {data} as position {position}")
        if not flight.left:
            proc.flights.remove(flight)
            proc.landed.append(flight)
            if flight.memory is self.decode.pool:
                self.net.append((self.decode, encode(flight.notice)))

    def done(self, pick: int) -> None:
        """Prefill learns that a write is done."""
        landed = self.prefill.landed
        if landed:
            flight = landed.pop(pick % len(landed))
            self._to_source(self.prefill, flight.key, w.WriteDone(flight.post.post_id))

    def fail(self, pick: int) -> None:
        """A write fails for good, perhaps half of it landed."""
        flights = self.prefill.flights
        if flights:
            flight = flights.pop(pick % len(flights))
            self._to_source(self.prefill, flight.key, w.WriteFailed(flight.post.post_id, "broken"))

    # --- moves: the decode engine -----------------------------------------------------------------

    def allocate(self) -> None:
        """The next request in the queue gets blocks, if there are any."""
        if not self.wanted:
            return
        key, held = self.wanted[0]
        total, proc = self.totals[key], self.decode
        blocks = proc.pool.take(key, total)
        if not blocks:
            return
        self.wanted.popleft()
        proc.blocks[key] = blocks
        for position in range(held):
            proc.pool.content[blocks[position]] = (key, position)
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
            good = [(key, ask.first + i) for i in range(len(ask.blocks))]
            same = [pool.content[block] for block in ask.blocks] == good
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

    # --- moves: network, time, death --------------------------------------------------------------

    def deliver(self, pick: int, keep: bool = False) -> None:
        """Any message arrives, at every attempt of its request; with `keep` it will come again."""
        if not self.net:
            return
        i = pick % len(self.net)
        proc, data = self.net[i] if keep else self.net.pop(i)
        if not proc.alive:
            return
        message = decode(data)
        ends = proc.targets if isinstance(proc, Decode) else proc.sources
        if isinstance(proc, Prefill):
            self._source(proc, message.key)
        for key in [k for k in ends if k.ticket_id == message.key.ticket_id]:
            self._hand(proc, key, message)

    def lose(self, pick: int) -> None:
        if self.net:
            self.net.pop(pick % len(self.net))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for key in list(self.prefill.sources):
            self._to_source(self.prefill, key, w.Tick(self.now_s))
        for key in list(self.decode.targets):
            self._to_target(key, w.Tick(self.now_s))

    def kill_prefill(self) -> None:
        """Its writes may still land until it is reaped."""
        self.prefill.alive = False
        self.dying.append(self.prefill)
        self.prefill = Prefill()

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
        """Writes under way hit memory that is gone, and fail."""
        self.decode.alive = False
        self.old.append(self.decode)
        self.decode = Decode()
        self.wanted.clear()
        flights, self.prefill.flights = self.prefill.flights, []
        for key in list(self.prefill.sources):
            self._to_source(self.prefill, key, w.PeerDead())
        for flight in flights:
            failed = w.WriteFailed(flight.post.post_id, "disconnected")
            self._to_source(self.prefill, flight.key, failed)

    # --- the end ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything under way arrive, without new decisions of anybody."""
        for _ in range(40):
            for _ in range(len(self.net)):
                self.deliver(0)
            self.complete(), self.report(), self.allocate()
            self.schedule(0, BLOCKS), self.finish(0), self.end(0)
            while any(p.flights for p in [self.prefill, *self.dying]):
                self.land(0)
            while self.prefill.landed:
                self.done(0)
            while self.decode.verifies:
                self.verify(0)

    def drain(self) -> None:
        """Afterwards every ticket is closed on both ends, and every block is back."""
        self.settle()
        while any(j.blocks and not j.done for j in self.prefill.jobs.values()):
            self.preempt(0)
        for pick in range(len(self.prefill.jobs)):
            self.drop(pick)
        for pick in range(len(self.decode.targets)):
            if self.decode.targets[sorted(self.decode.targets)[pick]].register is None:
                self.abort(pick)
        # Jobs are gone by now; a source that only a message made is dropped by its driver.
        for key in list(self.prefill.sources):
            self._to_source(self.prefill, key, w.Dropped("unknown"))
        for _ in range(12):
            self.settle()
            self.wait(DEADLINE_S)
            self.reap()
        while self.dying or self.kills:
            self.obey(), self.reap()
        self.settle()
        self.check()
        for state in [*self.prefill.sources.values(), *self.decode.targets.values()]:
            story = source.story if isinstance(state, SourceState) else target.story
            rule(state.closed, f"never closed: {story(state)}")
        rule(self.prefill.pool.held() == 0, "prefill leaks blocks")
        rule(self.decode.pool.held() == 0, "decode leaks blocks")
        rule(not self.quarantined & set(self.decode.targets), "quarantined for ever")
