"""Each in turn, the full passed over."""

from collections import Counter

from baton.ids import RequestId, WorkerId
from baton.messages import Dispatch, WorkerLoad
from router.policy.round_robin import choose
from router.policy.types import Plan, PolicyRules, PolicyView, Refusal, RequestFacts, WorkerView

REQUEST = RequestFacts(RequestId("r"), 100)


def workers(role: str, count: int, full: int = -1) -> tuple[WorkerView, ...]:
    return tuple(
        WorkerView(WorkerId(f"{role}{n}"), WorkerLoad(waiting=9 if n == full else 0))
        for n in range(count)
    )


def served(view: PolicyView, turns: int) -> Counter:
    plans = [choose(view, REQUEST, turn) for turn in range(turns)]
    assert all(isinstance(plan, Plan) for plan in plans)
    return Counter((plan.prefill, plan.decode) for plan in plans if isinstance(plan, Plan))


def test_everybody_gets_as_much() -> None:
    view = PolicyView(workers("p", 3), workers("d", 2), Dispatch.CONCURRENT)
    assert set(served(view, 12).values()) == {2}


def test_who_is_full_is_passed_over() -> None:
    rules = PolicyRules(max_queued_prefill_requests=9)
    view = PolicyView(workers("p", 3, full=1), workers("d", 1), Dispatch.CONCURRENT, rules=rules)
    assert {prefill for prefill, _ in served(view, 6)} == {"p0", "p2"}


def test_nobody_is_a_refusal() -> None:
    assert isinstance(choose(PolicyView((), (), Dispatch.CONCURRENT), REQUEST, 0), Refusal)
