import math

import pytest

from simulator.engine import Engine
from simulator.engine_model.times import EngineTimes
from simulator.job import Kind
from simulator.rules import EngineRules
from tests.unit.simulator.builders import ROUND, Ears, job, request

GROWING = EngineTimes(0, 0, 0.001, 0, 0, 0.010, 0, 0, 0, 1e-5)


def engine(times=ROUND, **rules) -> Engine:
    basis = {"kv_tokens": 10_000, "max_batched_tokens": 1000, "max_running": 8, "headroom": 0.0}
    return Engine(times, EngineRules(**(basis | rules)), Ears())


def submit(engine: Engine, one, now: float):
    engine.expect(one)
    engine.submit(one, now)
    return one


def drive(engine: Engine, until_s: float = math.inf) -> float:
    now = 0.0
    while engine.ends_s <= until_s and engine.ends_s < math.inf:
        now = engine.ends_s
        engine.wake(now)
        engine.pool.check()
    return now


def heard(engine: Engine, what: str):
    return [(number, at_s) for name, number, at_s in engine._listener.heard if name == what]


def test_one_prompt_in_chunks():
    e = engine()
    submit(e, job(request(0, 0, 2500), Kind.PREFILL), 0.0)
    drive(e)
    assert heard(e, "started") == [(0, 0.0)]
    assert heard(e, "progressed") == [(0, 1.0), (0, 2.0)]
    assert heard(e, "computed") == [(0, 2.5)]
    assert e.pool.used == 4 * 512 + 452
    assert e.computed_tokens == 2500


def test_first_come_first_served_and_batched():
    e = engine()
    for n, tokens in enumerate((800, 300, 300)):
        submit(e, job(request(n, 0, tokens), Kind.PREFILL), 0.0)
    drive(e)
    # The first starts alone, as it came first; the others share the next iteration.
    assert heard(e, "computed") == [(0, 0.8), (1, 1.4), (2, 1.4)]


def test_the_budget_of_an_iteration_goes_to_the_older_prompt():
    e = engine()
    submit(e, job(request(0, 0, 1600), Kind.PREFILL), 0.0)
    submit(e, job(request(1, 0, 900), Kind.PREFILL), 0.1)
    drive(e)
    assert heard(e, "started") == [(0, 0.0), (1, 1.0)]
    assert heard(e, "computed") == [(0, 2.0), (1, 2.5)]


def test_cached_blocks_are_not_computed():
    e = engine()
    first = submit(e, job(request(0, 0, 1024, keys=(1, 2)), Kind.PREFILL), 0.0)
    drive(e)
    e.release(first, 1.1)
    second = job(request(1, 0, 1600, keys=(1, 2, 3, 4)), Kind.PREFILL)
    e.expect(second)
    assert e.queued_tokens == 1600 - 1024
    e.submit(second, 2.0)
    assert second.done == 1024
    drive(e)
    assert heard(e, "computed")[-1] == (1, 2.576)
    # A prompt that is here as a whole still computes its last token.
    e.release(second, 3.0)
    submit(e, job(request(2, 0, 1024, keys=(1, 2)), Kind.PREFILL), 3.0)
    drive(e)
    assert heard(e, "computed")[-1] == (2, 3.001)


def test_solo_answers_after_its_prompt():
    e = engine()
    one = submit(e, job(request(0, 0, 500, 4), Kind.SOLO), 0.0)
    drive(e)
    record = one.record
    assert record.first_s == pytest.approx(0.5)
    assert heard(e, "finished") == [(0, 0.53)]
    assert (e.pool.used, e.kv_tokens, e.steps) == (0, 0, 3)


def landed(e: Engine, n: int, tokens: int, answer: int, now: float):
    one = job(request(n, 0, tokens, answer), Kind.DECODE)
    assert e.reserve(one, now)
    e.land(one, now)
    return one


def test_decode_joins_at_the_end_of_a_step():
    e = engine()
    landed(e, 0, 500, 10, 0.0)
    assert e.ends_s == pytest.approx(0.1)
    late = landed(e, 1, 500, 2, 0.034)
    assert e.ends_s == pytest.approx(0.04)
    drive(e)
    assert late.record.joined_s == pytest.approx(0.04)
    assert late.record.first_s == pytest.approx(0.05)
    assert heard(e, "finished") == [(1, 0.06), (0, 0.1)]


def test_an_arrival_at_the_very_end_of_a_step_does_not_wait_for_another():
    e = engine()
    landed(e, 0, 500, 10, 0.0)
    late = landed(e, 1, 500, 2, 0.03)
    drive(e)
    assert late.record.joined_s == pytest.approx(0.03)


def test_growing_contexts_make_slower_steps():
    e = engine(GROWING)
    landed(e, 0, 1000, 3, 0.0)
    end = drive(e)
    assert end == pytest.approx(3 * 0.010 + 1e-5 * (1000 + 1001 + 1002))


def test_chunks_and_decode_steps_share_iterations():
    e = engine()
    landed(e, 0, 500, 10, 0.0)
    submit(e, job(request(1, 0, 1500), Kind.PREFILL), 0.005)
    drive(e)
    # One token of the 1,000 goes to the answer: 999 and 501 tokens beside a step each.
    assert heard(e, "progressed") == [(1, pytest.approx(0.01 + 1.009))]
    assert heard(e, "computed") == [(1, pytest.approx(0.01 + 1.009 + 0.511))]
    assert heard(e, "finished") == [(0, pytest.approx(0.1 + 1.5))]


def test_the_youngest_answer_gives_way_and_is_computed_again():
    e = engine(kv_tokens=1100, headroom=0.02)
    old = landed(e, 0, 500, 80, 0.0)
    young = landed(e, 1, 500, 80, 0.0)
    drive(e)
    assert (old.record.preemptions, young.record.preemptions) == (0, 1)
    # 100 free tokens: one for the step that began without the younger, 98 for 49 steps of both.
    # The older needs 30 more steps, alone.
    assert heard(e, "finished")[0] == (0, pytest.approx(0.8))
    # Computing 549 tokens again gives the 50th of the answer; 30 are left.
    assert heard(e, "finished")[1] == (1, pytest.approx(0.8 + 0.549 + 0.30))
    assert (e.pool.used, e.queued_tokens) == (0, 0)


def test_reservations_leave_room_for_planned_steps():
    e = engine(kv_tokens=1000)
    landed(e, 0, 500, 300, 0.0)
    big = job(request(1, 0, 480, 2), Kind.DECODE)
    # 300 planned steps would not fit beside it; after a cut there is room for some.
    assert e.reserve(big, 0.015)
    assert e.ends_s == pytest.approx(0.02)
    e.land(big, 0.5)
    drive(e)
    e.pool.check()
    assert len(heard(e, "finished")) == 2


def test_no_memory_means_waiting():
    e = engine(kv_tokens=1000)
    first = submit(e, job(request(0, 0, 600), Kind.PREFILL), 0.0)
    submit(e, job(request(1, 0, 600), Kind.PREFILL), 0.0)
    drive(e)
    assert heard(e, "started") == [(0, 0.0)]
    assert e.blocked
    e.release(first, 2.0)
    drive(e)
    assert heard(e, "computed") == [(0, 0.6), (1, 2.6)]


def test_a_batch_is_bounded():
    e = engine(max_running=2)
    for n in range(3):
        landed(e, n, 100, 2, 0.0)
    drive(e)
    assert heard(e, "finished") == [(0, 0.02), (1, pytest.approx(0.03)), (2, pytest.approx(0.04))]


@pytest.mark.parametrize("when", ["waiting", "computing", "computed", "reserved", "decoding"])
def test_a_dropped_job_leaves_nothing(when):
    e = engine(kv_tokens=2000)
    submit(e, job(request(9, 0, 1000), Kind.PREFILL), 0.0)
    if when in ("reserved", "decoding"):
        victim = job(request(1, 0, 700, 50), Kind.DECODE)
        assert e.reserve(victim, 0.0)
        if when == "decoding":
            e.land(victim, 0.0)
            drive(e, 1.205)
    else:
        victim = submit(e, job(request(1, 0, 900), Kind.PREFILL), 0.0)
        drive(e, {"waiting": 0.5, "computing": 1.1, "computed": 9.0}[when])
    e.drop(victim, 1.205 if when == "decoding" else e.ends_s if e.ends_s < 9 else 9.0)
    drive(e)
    assert e.pool.used == 1000 - 1000 // 512 * 512 + 512
    assert (e.queued_tokens, e.kv_tokens) == (0, 0)
    assert not any(name == "finished" for name, _, _ in e._listener.heard)


def test_backlog_counts_what_waits_and_what_runs():
    e = engine()
    submit(e, job(request(0, 0, 800), Kind.PREFILL), 0.0)
    submit(e, job(request(1, 0, 700), Kind.PREFILL), 0.0)
    assert e.backlog_s(0.3) == pytest.approx(0.5 + 0.7)
    assert (e.queued_tokens, e.left_s(0.3)) == (1500, 0.5)


def test_a_stopped_engine_knows_what_was_generated():
    e = engine()
    old = landed(e, 0, 500, 10, 0.0)
    e.stop(0.045)
    assert (old.generated, e.ends_s) == (4, math.inf)
    e = engine()
    young = landed(e, 0, 500, 10, 0.0)
    e.stop(0.005)
    assert (young.generated, young.record.first_s) == (0, -1.0)
