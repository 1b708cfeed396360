from router.policy import least_loaded
from router.policy.types import ChoiceReason, PolicyRules
from simulator.job import End
from simulator.policy_router import PolicyRouter
from simulator.rules import Freshness
from tests.unit.simulator.builders import request, run, world


def policy(**rules):
    return lambda _: PolicyRouter(least_loaded.choose, PolicyRules(**rules))


def test_the_routers_own_policy_chooses():
    requests = [request(n, 0.0, tokens) for n, tokens in enumerate((3000, 500, 500, 500))]
    outcome = run(world(prefill=2, decode=2), *requests, make_router=policy())
    first = outcome.records[0].prefill
    others = {r.prefill for r in outcome.records[1:]}
    assert others == {"worker-0", "worker-1"} - {first}
    assert outcome.records[0].reason == ChoiceReason.DISAGGREGATED


def test_what_was_sent_since_the_last_report_counts():
    rules = world(prefill=2, freshness=Freshness(every_s=100.0))
    requests = [request(n, 0.1 * n, 3000) for n in range(2)]
    outcome = run(rules, *requests, make_router=policy())
    assert len({r.prefill for r in outcome.records}) == 2


def test_short_prompts_stay_together():
    rules = policy(min_disaggregated_tokens=1000)
    record = run(world(), request(0, 0, 500, 2), make_router=rules).records[0]
    assert (record.prefill, record.reason) == (None, "short_prompt")


def test_a_refusal_ends_the_request():
    requests = [request(n, 0.0, 3000) for n in range(4)]
    rules = policy(max_queued_prefill_requests=2)
    outcome = run(world(), *requests, make_router=rules)
    assert [r.end for r in outcome.records] == [End.FINISHED] * 2 + [End.REFUSED] * 2
    assert outcome.records[3].reason == "worker_full"
