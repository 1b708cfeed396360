from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.cluster_model import Cluster
from simulator.job import End
from simulator.plain_routers import InTurn
from simulator.rules import FRESH, OWN, EngineRules, Fault, Freshness, NetworkRules
from simulator.traces.generator import Spread, Workload, generate
from simulator.traces.request import Trace
from simulator.traces.shape import at_load
from tests.unit.simulator.builders import (
    ROUND,
    SLOW_WIRE,
    Solo,
    Watching,
    approx,
    least,
    request,
    run,
    trace,
    world,
)

LOAD = generate(Workload(250, 1.0, seed=5, system_tokens=Spread(600), input_tokens_max=4000))
TIGHT = EngineRules(kv_tokens=6000, max_batched_tokens=1024, max_running=16)
VIEWS = [
    FRESH,
    OWN,
    Freshness(every_s=1.0),
    Freshness(cache="own", every_s=1.0, delay_s=0.5),
    Freshness(load="own"),
    Freshness(load="own", every_s=2.0),
]


def times_of(outcome, number: int):
    r = outcome.records[number]
    moments = (r.started_s, r.computed_s, r.landed_s, r.joined_s, r.first_s, r.finished_s)
    return [approx(t) for t in moments], [round(t, 9) for t in moments]


# --- by hand --------------------------------------------------------------------------------------


def test_one_request_alone():
    record = run(world(), request(0, 2.0, 500, 11)).records[0]
    assert record.parts_s == approx((0, 0.5, 0, 0, 0.01))
    assert (record.ttft_s, record.tpot_s) == (approx(0.51), approx(0.01))
    assert (record.prefill, record.decode) == ("worker-0", "worker-1")
    assert (record.end, record.moved_tokens, record.hit_tokens) == (End.FINISHED, 500, 0)


def test_a_queue_of_three():
    requests = [request(n, 0.1 * n, 8192, 2) for n in range(3)]
    outcome = run(world(), *requests)
    assert [r.started_s for r in outcome.records] == approx([0, 8.192, 16.384])
    assert [r.parts_s[0] for r in outcome.records] == approx([0, 8.092, 16.184])
    assert [r.ttft_s for r in outcome.records] == approx([8.202, 16.294, 24.386])


def test_only_the_last_chunk_is_exposed():
    small = EngineRules(kv_tokens=100_000, max_batched_tokens=1000)
    streamed = run(world(engine=small, network=SLOW_WIRE), request(0, 0, 2500))
    assert streamed.records[0].parts_s == approx((0, 2.5, 0.05, 0, 0.01))
    late = replace(SLOW_WIRE, streamed=False)
    whole = run(world(engine=small, network=late), request(0, 0, 2500))
    assert whole.records[0].parts_s == approx((0, 2.5, 0.25, 0, 0.01))


def test_what_decode_holds_is_not_moved_again():
    requests = [request(n, 10 * n, 1100, 2, keys=(1, 2, 3)) for n in range(2)]
    outcome = run(world(network=SLOW_WIRE), *requests)
    assert [r.moved_tokens for r in outcome.records] == [1100, 76]
    assert outcome.records[1].hit_tokens == 1024
    assert outcome.records[1].parts_s == approx((0, 0.076, 0.0076, 0, 0.01))
    assert outcome.moved_tokens == 1176


def test_decode_without_memory_holds_prefill_up():
    engine = EngineRules(kv_tokens=1500, max_batched_tokens=1024, headroom=0)
    requests = [request(0, 0.0, 1000, 101), request(1, 0.5, 600, 2)]
    outcome = run(world(engine=engine), *requests)
    first, second = outcome.records
    assert first.finished_s == approx(1.0 + 1.01)
    # Computed at 1.6, but decode has room only when the first is done.
    assert second.computed_s == approx(1.6)
    assert second.landed_s == approx(2.01)


def test_without_disaggregation():
    record = run(world(prefill=0), request(0, 0, 500, 3), make_router=lambda _: Solo()).records[0]
    assert record.parts_s == approx((0, 0.5, 0, 0, 0))
    assert record.finished_s == approx(0.52)
    assert (record.prefill, record.moved_tokens) == (None, 0)


def test_workers_of_one_host_are_nearer():
    near = NetworkRules(bytes_per_s=1e7, host_bytes_per_s=1e8, latency_s=0, layers=1)
    one = run(world(network=near, workers_per_host=2), request(0, 0, 1000)).records[0]
    two = run(world(network=near), request(0, 0, 1000)).records[0]
    assert (one.parts_s[2], two.parts_s[2]) == approx((0.01, 0.1))


def test_too_long_is_refused():
    engine = EngineRules(kv_tokens=1500, max_batched_tokens=1024)
    outcome = run(world(engine=engine), request(0, 0, 1400, 200), request(1, 0, 1300, 200))
    assert [r.end for r in outcome.records] == [End.TOO_LONG, End.FINISHED]


def test_an_empty_trace_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Cluster(world(), InTurn).run(Trace("nothing", ()))


# --- always ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 3000), st.integers(1, 400), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(VIEWS),
    st.lists(
        st.tuples(
            st.floats(0, 20),
            st.sampled_from(["drain", "kill", "add"]),
            st.integers(0, 5),
        ),
        max_size=4,
    ),
)
def test_every_request_ends_once_whatever_happens(drawn, prefill, decode, view, faults):
    at_s, requests = 0.0, []
    for number, (gap_s, tokens, answer, family) in enumerate(drawn):
        at_s += gap_s
        keys = [100 * family + i for i in range(-(-tokens // 512))]
        requests.append(request(number, at_s, tokens, answer, keys if family else None))
    happening = tuple(
        Fault(at, what, ["prefill", "decode"][n % 2] if what == "add" else f"worker-{n}")
        for at, what, n in faults
    )
    rules = world(
        prefill=prefill,
        decode=decode,
        routers=2,
        freshness=view,
        faults=happening,
        startup_s=5.0,
        network=SLOW_WIRE,
        engine=EngineRules(kv_tokens=4000, max_batched_tokens=600, max_running=8),
    )
    outcome = run(rules, *requests, make_router=least)
    if not faults:
        assert all(r.end is End.FINISHED for r in outcome.records)


@pytest.mark.parametrize("view", VIEWS)
def test_a_real_looking_load_with_little_memory(view):
    rules = world(prefill=3, decode=2, engine=TIGHT, freshness=view, routers=3, network=SLOW_WIRE)
    outcome = Watching(rules, least).run(at_load(LOAD, 1.5))
    summary = outcome.summary()
    assert summary.finished == 250
    assert summary.hit_share > 0.05
    assert sum(summary.parts_s) == approx(sum(r.ttft_s for r in outcome.records) / 250)


def test_the_same_run_twice_gives_the_same_records():
    rules = world(prefill=2, decode=2, routers=3, freshness=VIEWS[3])
    first, second = (Cluster(rules, least).run(LOAD) for _ in range(2))
    assert first == second
    other = Cluster(replace(rules, seed=1), least).run(LOAD)
    assert other.records != first.records


@pytest.mark.parametrize("load", [0.5, 1.0, 2.0])
def test_more_workers_are_not_worse(load):
    def mean_ttft_s(workers: int) -> float:
        rules = world(prefill=workers, decode=workers, engine=TIGHT)
        return sum(Cluster(rules, least).run(at_load(LOAD, load)).summary().parts_s)

    means = [mean_ttft_s(workers) for workers in (1, 2, 4, 8)]
    for fewer, more in pairwise(means):
        assert more <= fewer * 1.05 + 0.02


def test_fresh_views_are_not_worse_than_none():
    def mean_ttft_s(view: Freshness) -> float:
        rules = world(prefill=4, decode=2, routers=4, freshness=view)
        return sum(Cluster(rules, least).run(at_load(LOAD, 3.0)).summary().parts_s)

    assert mean_ttft_s(FRESH) < mean_ttft_s(OWN)


def test_times_are_what_the_model_says():
    outcome = run(world(), request(0, 0, 100, 3))
    expected, found = times_of(outcome, 0)
    assert found == expected
    assert ROUND.prefill_s(100) == approx(outcome.records[0].parts_s[1])


def test_order_of_simultaneous_arrivals_is_the_traces():
    outcome = Cluster(world(), InTurn).run(trace(*(request(n, 1.0, 5000) for n in range(3))))
    started = [r.started_s for r in outcome.records]
    assert started == sorted(started)
