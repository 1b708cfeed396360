"""Small worlds computed twice: by the simulator, and step by step without its shortcuts."""

import heapq
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster_model import Cluster
from simulator.engine import Engine
from simulator.engine_model.times import EngineTimes
from simulator.job import Kind
from simulator.plain_routers import InTurn
from simulator.rules import EngineRules
from simulator.traces.generator import Workload, generate
from simulator.traces.shape import at_load
from tests.unit.simulator.builders import Ears, approx, job, request, world

UNEVEN = EngineTimes(0, 0.010, 0.00016, 0, 0, 0.010, 0.001, 0.002, 0.003, 1e-5, 1000)


def steps_one_by_one(arrivals):
    """When each answer is complete, if every decode step is looked at."""
    waiting, running, ends, now = sorted(arrivals), {}, {}, -1.0
    while waiting or running:
        # An idle engine begins with the first that comes; others join at the ends of steps.
        idle = not running and waiting[0][0] > now
        if idle:
            now = waiting[0][0]
        while waiting and waiting[0][0] <= now and not (idle and running):
            _, number, tokens, answer = waiting.pop(0)
            running[number] = [tokens, answer]
        now += UNEVEN.step_s(len(running), sum(tokens for tokens, _ in running.values()))
        for number, state in list(running.items()):
            state[0] += 1
            state[1] -= 1
            if not state[1]:
                ends[number] = now
                del running[number]
    return ends


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.integers(1, 5000), st.integers(1, 60)),
        min_size=1,
        max_size=12,
    )
)
def test_stretches_of_decode_steps_are_steps(drawn):
    arrivals = [(at, number, tokens, answer) for number, (at, tokens, answer) in enumerate(drawn)]
    ears = Ears()
    engine = Engine(UNEVEN, EngineRules(kv_tokens=1_000_000), ears)
    events = [(at, 1, number, tokens, answer) for at, number, tokens, answer in arrivals]
    heapq.heapify(events)
    while events or engine.ends_s < float("inf"):
        if events and events[0][0] <= engine.ends_s:
            at, _, number, tokens, answer = heapq.heappop(events)
            leg = job(request(number, at, tokens, answer), Kind.DECODE)
            assert engine.reserve(leg, at)
            engine.land(leg, at)
        else:
            engine.wake(engine.ends_s)
    found = {number: at for name, number, at in ears.heard if name == "finished"}
    assert found == {number: approx(at) for number, at in steps_one_by_one(arrivals).items()}


def single_queues(trace, workers: int):
    """TTFT of single-server queues that requests are dealt to in turn, each with its cache."""
    free_s, caches, ttft = [0.0] * workers, [set() for _ in range(workers)], []
    for r in trace.requests:
        at = r.number % workers
        keys = r.blocks[: r.whole_blocks]
        hits = next((i for i, key in enumerate(keys) if key not in caches[at]), len(keys))
        new = r.input_tokens - min(hits * 512, r.input_tokens - 1)
        free_s[at] = max(free_s[at], r.arrival_s) + 0.010 + 0.00016 * new
        caches[at].update(keys)
        ttft.append(free_s[at] - r.arrival_s)
    return ttft


@pytest.mark.parametrize("load", [2.0, 6.0, 12.0])
def test_one_prompt_at_a_time_is_a_single_queue(load):
    trace = at_load(generate(Workload(500, 1.0, seed=2)), load)
    engine = EngineRules(50_000_000, 100_000, max_running=1)
    rules = replace(world(prefill=3, decode=3, engine=engine), times=UNEVEN)
    records = Cluster(rules, InTurn).run(trace).records
    found = [r.computed_s - r.request.arrival_s for r in records]
    assert found == approx(single_queues(trace, 3))
