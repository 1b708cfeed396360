"""A model of two engines, their memory and the network between them, around real ticket machines.

`Moves` has what can happen in any order; here both engines work on by themselves, as they should.
"""

from __future__ import annotations

from kv_transfer.ticket.states import SourceState
from kv_transfer.ticket.story import source_story, target_story
from tests.unit.kv_transfer.ticket.moves import DEADLINE_S, HOLD_S, PATIENCE, STEPS_AHEAD, Moves
from tests.unit.kv_transfer.ticket.parts import BLOCKS, Flight, rule

# Longer than any way out of trouble takes: silence or hold, the write deadline, the kill.
PATIENCE_S = PATIENCE.silence_s + HOLD_S + DEADLINE_S + PATIENCE.grace_s + PATIENCE.gap_max_s
TURN_S = 0.5


class World(Moves):
    """Everything."""

    def begin(self, total: int) -> None:
        """A request of this size, alone in the queues of both ends, begins and is registered."""
        self.schedule(0, total)
        self.arrive()
        self.allocate()
        self.arrive()

    def arrive(self) -> None:
        """All messages arrive, in order, and the answers to them."""
        while self.net:
            self.deliver(0)

    def settle(self) -> None:
        """Both engines work and everything under way arrives, while no time passes."""
        for _ in range(6):
            self._turn()

    def live(self, seconds: float) -> None:
        """The same for so long, or until all is over; the supervisor does as it is asked."""
        end_s = self.now_s + seconds
        while self.now_s < end_s and not self.over:
            self._turn()
            self.obey(), self.reap()
            if any(self._is_past(flight) for flight in self._doubted()):
                self.kill_prefill()  # Nobody waits for it any more, but its pins.
            self.wait(TURN_S)
            self.check()

    @property
    def over(self) -> bool:
        """Whether every request has ended on both ends."""
        ends = [*self.prefill.sources.values(), *self.decode.targets.values()]
        running = self.wanted or self.decode.running or self.prefill.jobs
        return not running and all(state.closed for state in ends)

    def _doubted(self) -> list[Flight]:
        return [f for f in [*self.prefill.flights, *self.prefill.doubted] if f.doubted]

    def _is_past(self, flight: Flight) -> bool:
        state = self.decode.targets.get(flight.key)
        return state is None or state.closed

    def _turn(self) -> None:
        self.arrive()
        for _ in range(len(self.wanted)):
            self.allocate()
        self.arrive()
        self._prefill_turn()
        for proc in [self.prefill, *self.dying]:
            for flight in [f for f in proc.flights if not f.doubted]:
                while flight.left:
                    self._land(proc, flight, 0)
        while self.prefill.landed:
            self.done(0)
        self.arrive()
        while self.decode.verifies:
            self.verify(0)
        while self.decode.running:
            self.end(0)

    def _prefill_turn(self) -> None:
        """First come, first served: the youngest are preempted for the oldest."""
        self._compute()
        jobs, pool = [j for j in self.prefill.jobs.values() if not j.done], self.prefill.pool
        for i, job in enumerate(jobs):
            for other in reversed(jobs[i + 1 :]):
                if other.blocks and len(job.blocks) < job.total and pool.held() == BLOCKS:
                    self._preempt(other)
            if len(self.prefill.steps) == STEPS_AHEAD:
                self._compute()
            self._schedule(job, BLOCKS - pool.held())
        while any(job.computed == job.total and not job.done for job in jobs):
            self.finish(0)

    def _compute(self) -> None:
        while self.prefill.steps or self.prefill.reports:
            self.layer(), self.report()

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Afterwards every ticket is closed on both ends, and every block is back."""
        # Prompts that nobody comes for are held one after the other.
        self.live(PATIENCE_S + HOLD_S * len(self.totals))
        self.check()
        for state in [*self.prefill.sources.values(), *self.decode.targets.values()]:
            story = source_story if isinstance(state, SourceState) else target_story
            rule(state.closed, f"never closed: {story(state)}")
        rule(self.over, "a request never ends")
        rule(self.prefill.pool.held() == 0, "prefill leaks blocks")
        rule(self.decode.pool.held() == 0, "decode leaks blocks")
        rule(not self.quarantined & set(self.decode.targets), "quarantined for ever")
