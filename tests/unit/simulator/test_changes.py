from dataclasses import replace

from simulator.job import End
from simulator.rules import EngineRules, Fault
from tests.unit.simulator.builders import approx, least, request, run, world


def test_a_request_waits_for_the_first_worker():
    rules = world(prefill=1, decode=0, faults=(Fault(1.0, "add", "decode"),), startup_s=30.0)
    outcome = run(replace(rules), request(0, 0.0, 500))
    assert outcome.records[0].started_s == approx(31.0)


def test_without_any_worker_it_ends_unplaced():
    outcome = run(world(prefill=1, decode=0), request(0, 0.0, 500))
    assert [r.end for r in outcome.records] == [End.UNPLACED]
    assert outcome.summary().finished == 0


def test_a_draining_worker_finishes_and_costs_no_more():
    rules = world(prefill=2, faults=(Fault(0.5, "drain", "worker-0"),))
    outcome = run(rules, *(request(n, n * 1.0, 3000, 5) for n in range(4)))
    assert [r.prefill for r in outcome.records] == ["worker-0"] + ["worker-1"] * 3
    assert all(r.attempts == 1 for r in outcome.records)
    assert outcome.prefill_worker_s == approx(3.0 + outcome.seconds)


def test_a_lost_prefill_worker_costs_the_attempt_and_the_time_to_notice():
    rules = world(prefill=2, faults=(Fault(1.0, "kill", "worker-0"),), detect_s=3.0)
    record = run(rules, request(0, 0, 3000, 5)).records[0]
    assert (record.attempts, record.prefill) == (2, "worker-1")
    assert record.started_s == approx(4.0)
    assert record.ttft_s == approx(7.01)


def test_a_lost_decode_worker_resumes_elsewhere():
    rules = world(decode=2, faults=(Fault(1.0, "kill", "worker-1"),), detect_s=3.0)
    record = run(rules, request(0, 0, 500, 101)).records[0]
    assert (record.attempts, record.decode) == (2, "worker-2")
    assert record.ttft_s == approx(0.51)
    # 50 tokens until 1.0; noticed at 4.0; the prompt is cached but for its tail, the 50 are new.
    assert record.finished_s == approx(4.0 + 0.55 + 0.51)


def test_memory_that_a_lost_request_held_goes_to_those_who_wait():
    rules = world(
        prefill=2,
        faults=(Fault(1.0, "kill", "worker-0"),),
        engine=EngineRules(kv_tokens=4000, max_batched_tokens=600, max_running=8),
    )
    outcome = run(rules, request(0, 0, 1537), request(1, 0, 2424), request(2, 0, 10))
    assert all(r.end is End.FINISHED for r in outcome.records)
    assert outcome.records[1].landed_s == approx(4.0)


def test_routers_send_to_a_lost_worker_until_it_is_noticed():
    rules = world(prefill=1, decode=1, faults=(Fault(0.0, "kill", "worker-0"),), detect_s=2.0)
    rules = replace(rules, faults=(*rules.faults, Fault(0.0, "add", "prefill")), startup_s=1.0)
    record = run(rules, request(0, 0.5, 500)).records[0]
    assert (record.attempts, record.started_s) == (2, approx(2.0))


def test_after_too_many_losses_a_request_is_given_up():
    faults = tuple(Fault(4.0 * n + 0.5, "kill", f"worker-{n}") for n in range(3))
    rules = world(prefill=3, faults=faults, attempts_max=3)
    outcome = run(rules, request(0, 0.0, 60_000), make_router=least)
    assert outcome.records[0].end is End.LOST
