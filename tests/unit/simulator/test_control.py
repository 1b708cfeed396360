from dataclasses import replace

import pytest

from simulator.job import End
from simulator.plain_routers import LeastWork
from simulator.plugs import Wanted
from tests.unit.simulator.builders import approx, request, run, world


class Script:
    """Says what it was told to say, and keeps what it was shown."""

    def __init__(self, *words: Wanted):
        self.words, self.seen = words, []

    def decide(self, view, memory, now):
        turn = memory or 0
        self.seen.append((now, view))
        return self.words[min(turn, len(self.words) - 1)], turn + 1


def simulate(script: Script, *requests, **rules):
    basis = {"control_every_s": 5.0, "startup_s": 10.0, "prefill": 2, "decode": 2}
    return run(
        world(**(basis | rules)),
        *requests,
        make_router=lambda _: LeastWork(),
        controller=script,
    )


STEADY = [request(n, float(n), 500, 20) for n in range(60)]


def test_more_workers_come_after_their_start():
    script = Script(Wanted(3, 2))
    outcome = simulate(script, *STEADY)
    at = {now: (v.prefill.ready, v.prefill.starting) for now, v in script.seen}
    assert (at[5.0], at[10.0], at[15.0], at[20.0]) == ((2, 0), (2, 1), (3, 0), (3, 0))
    assert outcome.changes == 1
    assert outcome.prefill_worker_s == approx(2 * outcome.seconds + outcome.seconds - 5.0)


def test_fewer_workers_drain_and_nothing_is_lost():
    script = Script(Wanted(1, 1))
    outcome = simulate(script, *STEADY)
    assert all(r.end is End.FINISHED and r.attempts == 1 for r in outcome.records)
    assert script.seen[-1][1].decode.ready == 1
    assert outcome.mean_workers < 2.5


def test_those_that_still_start_leave_first():
    script = Script(Wanted(4, 2), Wanted(3, 2))
    simulate(script, *STEADY)
    states = [(v.prefill.ready, v.prefill.starting, v.prefill.draining) for _, v in script.seen]
    assert states[:4] == [(2, 0, 0), (2, 2, 0), (3, 0, 0), (3, 0, 0)]


def test_roles_change_with_requests_running():
    script = Script(Wanted(1, 3, to_decode=1), Wanted(1, 3))
    heavy = [request(n, 0.3 * n, 700, 200) for n in range(120)]
    outcome = simulate(script, *heavy, role_change_s=1.0)
    assert all(r.end is End.FINISHED and r.attempts == 1 for r in outcome.records)
    assert script.seen[1][1].decode.ready == 3
    assert outcome.changes == 1
    served = {r.decode for r in outcome.records}
    assert served & {"worker-0", "worker-1"}


def test_what_the_controller_is_shown():
    script = Script(Wanted(1, 1))
    requests = [request(n, 0.0, 2000, 11) for n in range(8)]
    simulate(script, *requests, prefill=1, decode=1, window_s=7.0)
    now, first = script.seen[0]
    assert (now, first.arrivals, first.input_tokens, first.output_tokens) == (5.0, 8, 16_000, 88)
    assert (first.oldest_s, first.unplaced, first.startup_s) == (5.0, 0, 10.0)
    assert first.prefill.latency_s == approx((2.01,))
    assert first.decode.latency_s == approx((0.01,))
    # The second iteration took four prompts and began at 2.0; 7.2 s of it are left.
    assert first.prefill.backlog_s == approx((5.192 + 5.808,))
    assert first.uncached_tokens == 2000 + 2000 * 5
    assert (first.started_tokens, first.unplaced_tokens) == (12_000, 0)
    assert (first.finished, first.finished_tokens) == (1, 11)
    assert (first.prefill.waiting, first.decode.waiting) == ((7,), (0,))
    assert script.seen[1][1].arrivals == 0


def test_what_routers_hold_is_shown():
    script = Script(Wanted(1, 0))
    run(world(decode=0, control_every_s=2.0), request(0, 0.0, 700, 5), controller=script)
    assert (script.seen[0][1].unplaced, script.seen[0][1].unplaced_tokens) == (1, 700)


def test_scale_from_zero():
    class FromZero:
        def decide(self, view, memory, now):
            return Wanted(1, 1 if view.unplaced else 0), None

    outcome = simulate(FromZero(), request(0, 7.0, 500), prefill=1, decode=0)
    assert outcome.records[0].started_s == approx(20.0)


def test_decisions_are_kept():
    rules = replace(world(), control_every_s=1.0)
    script = Script(Wanted(1, 1, reason="a"), Wanted(1, 1, reason="a"), Wanted(1, 1, reason="b"))
    outcome = run(rules, request(0, 0, 5000), controller=script)
    assert [(at_s, w.reason) for at_s, w in outcome.decisions] == [(1.0, "a"), (3.0, "b")]
    assert run(world(), request(0, 0, 5)).decisions == ()


@pytest.mark.parametrize("bad", [{"control_every_s": 0.0}, {"window_s": 0.0}])
def test_times_are_checked(bad):
    with pytest.raises(ValueError, match="above 0"):
        world(**bad)
