"""Baton's law drives the cluster model: what it is shown, and what comes of it."""

from dataclasses import replace

from baton.settings import ScalingSettings, SloSettings
from cluster.scaling.rules import Rules
from simulator.job import End
from simulator.plain_routers import LeastWork
from simulator.plugs import ClusterSight, PoolView
from simulator.rules import EngineRules, Fault
from simulator.scaler import Kept, Scaler, Shape
from tests.unit.simulator.builders import approx, request, run, world


def told(**settings):
    given = {"mode": "auto", "prefill_max_workers": 6, "decode_max_workers": 6} | settings
    slo = SloSettings(ttft_s=2.0, ttft_s_per_1000_tokens=0.0, tpot_s=0.1)
    return Rules(ScalingSettings(**given), slo, 1, 1)


PREFILL = PoolView(2, 1, 0, (1.0, 3.0), (0.1, 0.1), (0, 0), (4, 2), (1.0, 4.0))
DECODE = PoolView(1, 0, 1, (0.0,), (0.5,), (8,), (2,), ())
VIEW = ClusterSight(
    prefill=PREFILL,
    decode=DECODE,
    arrivals=60,
    input_tokens=60_000,
    uncached_tokens=20_000,
    started_tokens=40_000,
    output_tokens=9_999_999,
    unplaced=3,
    unplaced_tokens=3000,
    finished=10,
    finished_tokens=2000,
    oldest_s=4.0,
    transfer_backlog_s=0.5,
    window_s=30.0,
    startup_s=60.0,
)


def seen(view, **rules):
    scaler = Scaler(world(**rules), told())
    shape = Shape().seen(view)
    return scaler.seen(view, shape), shape


def test_routers_learn_what_a_request_is():
    assert Shape().seen(VIEW) == Shape(1000.0, 0.5, 200.0)
    nothing = replace(VIEW, arrivals=0, started_tokens=0, finished=0)
    assert Shape(7.0, 0.1, 9.0).seen(nothing) == Shape(7.0, 0.1, 9.0)


def test_windows_become_rates_and_costs_become_capacity():
    view, _ = seen(VIEW)
    # 2 requests/s with 500 uncached tokens; a token takes 1 ms.
    assert view.prefill.arriving_tokens_per_s.value == approx(1000.0)
    assert view.prefill.worker_tokens_per_s.value == approx(1000.0)
    assert view.prefill.load == approx(1.0)
    # Answers are 200 tokens as those that ended, not what only the trace knows.
    assert view.decode.arriving_tokens_per_s.value == approx(400.0)
    # 99,000 tokens of memory hold 90 contexts of 1,100; a step takes 10 ms.
    assert view.decode.worker_tokens_per_s.value == approx(9000.0)


def test_what_routers_hold_waits_for_whoever_is_the_limit():
    view, _ = seen(VIEW)
    assert view.prefill.backlog_s.value == approx(2.0 + 3000 / 1000 / 2)
    assert view.decode.backlog_s.value == approx(2 * 200 / 9000)
    view, _ = seen(replace(VIEW, decode=replace(DECODE, kv_share=(0.95,))))
    assert view.prefill.backlog_s.value == approx(2.0)
    assert view.decode.backlog_s.value == approx(5 * 200 / 9000)


def test_percentiles_are_parts_of_the_promise():
    view, _ = seen(VIEW)
    assert view.prefill.attained.value == approx(2.0)
    assert view.decode.attained is None
    assert view.decode.predicted.value == approx(0.1)
    assert view.waiting == 3


def test_an_empty_cluster_is_no_error():
    nobody = PoolView(0, 0, 0, (), (), (), (), ())
    view, _ = seen(replace(VIEW, prefill=nobody, decode=nobody))
    assert (view.prefill.ready, view.decode.ready) == (0, 0)


SMALL = EngineRules(kv_tokens=20_000, max_batched_tokens=4096)
LARGE = EngineRules(kv_tokens=1_000_000, max_batched_tokens=4096)


def served(*requests, rules=None, **changes):
    setting = {"engine": SMALL, "control_every_s": 5.0, "window_s": 30.0, "startup_s": 20.0}
    cluster = world(**(setting | changes))
    scaler = Scaler(cluster, rules or told())
    return run(cluster, *requests, make_router=lambda _: LeastWork(), controller=scaler)


def prompts(per_s, seconds, tokens, answer, start=0, at=0.0):
    count = int(per_s * seconds)
    return [request(start + n, at + n / per_s, tokens, answer) for n in range(count)]


def test_a_load_of_prompts_grows_prefill_alone():
    outcome = served(*prompts(3.0, 200, 900, 5), engine=LARGE)
    wanted = [(w.prefill, w.decode) for _, w in outcome.decisions]
    assert max(p for p, _ in wanted) >= 4
    assert {d for _, d in wanted} == {1}
    assert all(r.end is End.FINISHED for r in outcome.records)


def test_a_load_of_answers_grows_decode_alone():
    outcome = served(*prompts(4.0, 200, 100, 1500))
    wanted = [(w.prefill, w.decode) for _, w in outcome.decisions]
    assert max(d for _, d in wanted) >= 3
    assert max(p for p, _ in wanted) <= 2
    assert all(r.end is End.FINISHED for r in outcome.records)


def test_when_the_mix_shifts_a_worker_changes_its_role_first():
    reading = prompts(1.2, 150, 900, 5)
    writing = prompts(4.0, 150, 100, 1500, start=len(reading), at=150.0)
    outcome = served(*reading, *writing, prefill=4, rules=told(down_after_s=1000.0))
    first = next(w for at_s, w in outcome.decisions if at_s > 150 and w.decode > 1)
    assert first.to_decode >= 1
    assert all(r.end is End.FINISHED and r.attempts == 1 for r in outcome.records)


def test_a_lost_worker_is_replaced():
    fault = Fault(100.0, "kill", "worker-0")
    outcome = served(*prompts(1.5, 250, 900, 5), prefill=2, faults=(fault,))
    assert outcome.changes >= 1
    assert all(r.end is End.FINISHED for r in outcome.records)
    assert outcome.decisions[-1][1].prefill == 2


def test_reasons_reach_the_record():
    outcome = served(*prompts(1.0, 30, 500, 5))
    assert "prefill 1" in outcome.decisions[0][1].reason
    assert isinstance(Kept().memory.busy_s, float)
