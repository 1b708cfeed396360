"""Rules of the reference setting, and the policy itself, in the full cluster model."""

from dataclasses import replace

import pytest

from baton.messages import Role
from benchmarks.routing_baselines import RULES, maker
from router.policy.division import Promise
from simulator import desk
from simulator.bridge import Bridge
from simulator.job import End
from simulator.knowledge import ClusterKnowledge
from simulator.pairing import Pairing, PairingRules
from simulator.plugs import Choice
from simulator.rules import FRESH, OWN, Fault, Freshness
from simulator.traces.generator import Workload, generate
from simulator.traces.shape import at_load, chained
from simulator.words import Arrival
from tests.unit.simulator.builders import ROUND, Watching, request, trace, world

STALE = Freshness(every_s=0.5)
VIEWS = {"fresh": FRESH, "stale": STALE, "own": OWN, "mixed": replace(STALE, cache="own")}
LOAD = at_load(chained(generate(Workload(150, 1.0, seed=4, input_tokens_max=4000))), 3.0)


def routers(rules, make, *, divides=False):
    pairing = Pairing(rules, PairingRules(Promise(2.0, 0.04), output_tokens=50))
    return lambda n: Bridge(make, n, rules, pairing, slo_s=2.0, divides=divides)


def serve(rules, make, load=LOAD, **facts):
    return Watching(rules, routers(rules, make, **facts)).run(load)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("rule", ["Baton", "Baton asks", *RULES])
def test_every_rule_serves_everything(rule, view):
    rules = world(prefill=3, decode=2, routers=2, freshness=VIEWS[view])
    own = rule.startswith("Baton")
    make = desk.maker(1, may_ask="asks" in rule) if own else maker(RULES[rule], 1)
    outcome = serve(rules, make)
    assert {r.end for r in outcome.records} == {End.FINISHED}
    assert len(outcome.computed_tokens) == 3


def test_a_warm_worker_is_found_and_a_busy_one_left():
    rules = world(prefill=2, decode=1)
    same = [request(n, 3.0 * n, 1300, keys=(7, 8, 9)) for n in range(3)]
    outcome = serve(rules, desk.maker(1, may_ask=False), trace(*same, request(9, 6.1, 1000)))
    first, *others, cold = outcome.records
    assert [r.hit_tokens for r in others] == [1024, 1024]
    assert {r.prefill for r in others} == {first.prefill} != {cold.prefill}


def test_what_is_kept_leaves_when_a_worker_runs_dry():
    rules = world(prefill=1, decode=1)
    rows = [request(n, 0.0, 500) for n in range(3)]
    outcome = serve(rules, desk.maker(1, may_ask=False), trace(*rows))
    assert [r.started_s for r in outcome.records] == pytest.approx([0.0, 0.5, 1.0], abs=1e-3)


def test_a_short_prompt_is_computed_where_it_is_answered():
    # While prefill is busy, a stall of 20 ms is within the promise and 500 ms is not.
    rules = world(prefill=1, decode=1)
    load = trace(request(0, 0.0, 4000), request(1, 0.1, 20), request(2, 0.2, 500))
    outcome = serve(rules, desk.maker(1, may_ask=False), load, divides=True)
    assert [r.prefill is None for r in outcome.records] == [False, True, False]
    assert outcome.records[1].reason == "whole"


def test_a_lost_worker_is_left_out():
    rules = world(prefill=3, decode=2, faults=(Fault(10.0, "kill", "worker-1"),))
    outcome = serve(rules, desk.maker(1, may_ask=False))
    assert {r.end for r in outcome.records} == {End.FINISHED}
    assert any(r.attempts > 1 for r in outcome.records)


def test_without_decode_workers_requests_are_refused():
    rules = world(prefill=1, decode=1, faults=(Fault(0.0, "drain", "worker-1"),))
    load = trace(request(0, 1.0, 500))
    outcome = serve(rules, desk.maker(1, may_ask=False), load)
    assert outcome.records[0].end is End.REFUSED


def test_a_stale_queue_shrinks_with_time_and_grows_with_own_work():
    rules = world(prefill=1, decode=1, freshness=STALE)
    cluster = Watching(rules).cluster
    known, view = ClusterKnowledge(rules, 2.0), cluster.views[0].at(0.0)
    known.look(view, 0.0)
    known.sent(Arrival(0, 0.0, 1000, (1,)), 0, 0.1)
    assert known.pending_s(0.1) == pytest.approx([1.0])
    assert known.pending_s(0.6) == pytest.approx([0.5])
    assert known.members(0.6) == (0,)
    assert known.name(0) == cluster.fleet.by_role[Role.PREFILL][0].worker_id


def test_a_cache_is_known_by_its_changes():
    rules = world(prefill=1, decode=1, freshness=OWN)
    view = Watching(rules).cluster.views[0].at(0.0)
    known, prompt = ClusterKnowledge(rules, 2.0), request(1, 0, 1300, keys=(7, 8, 9))
    arrival = Arrival(1, 0.0, 1300, (7, 8))
    known.look(view, 0.0)
    assert known.cached_tokens(arrival) == [0]
    view.sent(prompt, Choice(view.prefill[0].worker_id, view.decode[0].worker_id), 0.0)
    known.look(view, 0.1)
    assert known.cached_at(arrival, 0) == 1024
    assert known.curve.seconds(100, 0) == pytest.approx(ROUND.chunk_s(100, 0))
