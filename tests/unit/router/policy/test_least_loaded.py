"""The least loaded worker that is not full, and an honest refusal where there is none."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import RequestId, WorkerId
from baton.messages import Dispatch, Role, WorkerLoad
from router.policy.least_loaded import choose, refusal
from router.policy.types import (
    ChoiceReason,
    Plan,
    PolicyRules,
    PolicyView,
    Refusal,
    RequestFacts,
    WorkerView,
)

REQUEST = RequestFacts(RequestId("r"), prompt_tokens=100)


def worker(name: str, *, draining=False, sent=0, sent_tokens=0, **load) -> WorkerView:
    return WorkerView(WorkerId(name), WorkerLoad(**load), sent, sent_tokens, draining=draining)


def view(prefill=(), decode=(), starting=(), **rules) -> PolicyView:
    return PolicyView(
        tuple(prefill),
        tuple(decode),
        Dispatch.SEQUENTIAL,
        frozenset(starting),
        PolicyRules(**rules),
    )


PREFILL, DECODE = worker("p"), worker("d")


def test_prefill_goes_where_the_fewest_prompt_tokens_queue() -> None:
    pool = [worker("a", queued_prompt_tokens=9), worker("b", waiting=5, queued_prompt_tokens=8)]
    assert choose(view(pool, [DECODE]), REQUEST).prefill == "b"


def test_between_equal_tokens_the_fewer_requests_win() -> None:
    pool = [worker("a", running=2), worker("b", running=1)]
    assert choose(view(pool, [DECODE]), REQUEST).prefill == "b"


def test_what_was_just_sent_counts() -> None:
    pool = [worker("a", sent=1, sent_tokens=100), worker("b", queued_prompt_tokens=99)]
    assert choose(view(pool, [DECODE]), REQUEST).prefill == "b"


def test_decode_goes_where_the_fewest_requests_are_then_the_least_kv() -> None:
    pool = [worker("a", running=3), worker("b", running=1, waiting=1), worker("c", waiting=2)]
    full, roomy = worker("full", kv_used=0.9), worker("roomy", kv_used=0.1)
    assert choose(view([PREFILL], [*pool, worker("d", running=1)]), REQUEST).decode == "d"
    assert choose(view([PREFILL], [full, roomy]), REQUEST).decode == "roomy"


def test_no_worker_is_always_first_among_equals() -> None:
    pool = view([PREFILL], [worker(f"d{n}") for n in range(4)])
    facts = [RequestFacts(RequestId(f"r{n}"), 100) for n in range(400)]
    counts = Counter(choose(pool, one).decode for one in facts)
    assert len(counts) == 4
    assert min(counts.values()) > 60
    assert all(choose(pool, one) == choose(pool, one) for one in facts[:20])


@pytest.mark.parametrize(
    ("request_facts", "rules", "prefill", "reason"),
    [
        (REQUEST, {}, [PREFILL], ChoiceReason.DISAGGREGATED),
        (REQUEST, {"disaggregate": "never"}, [PREFILL], ChoiceReason.SETTING),
        (REQUEST, {"min_disaggregated_tokens": 101}, [PREFILL], ChoiceReason.SHORT_PROMPT),
        (REQUEST, {"min_disaggregated_tokens": 100}, [PREFILL], ChoiceReason.DISAGGREGATED),
        (REQUEST, {}, [], ChoiceReason.NO_PREFILL_WORKER),
        (REQUEST, {}, [worker("p", draining=True)], ChoiceReason.NO_PREFILL_WORKER),
        (
            REQUEST,
            {"disaggregate": "always", "min_disaggregated_tokens": 101},
            [PREFILL],
            ChoiceReason.DISAGGREGATED,
        ),
        (
            RequestFacts(RequestId("r"), 100, may_disaggregate=False),
            {"disaggregate": "always"},
            [PREFILL],
            ChoiceReason.NOT_DIVISIBLE,
        ),
    ],
)
def test_the_plan_says_why_it_is_split_or_not(request_facts, rules, prefill, reason) -> None:
    plan = choose(view(prefill, [DECODE], **rules), request_facts)
    split = reason is ChoiceReason.DISAGGREGATED
    assert plan == Plan(WorkerId("p") if split else None, "d", Dispatch.SEQUENTIAL, reason)


@pytest.mark.parametrize(
    ("decode", "starting", "reason"),
    [
        ([], [], Reason.NO_WORKER),
        ([], [Role.DECODE], Reason.STARTING),
        ([], [Role.PREFILL], Reason.NO_WORKER),
        ([worker("d", draining=True)], [], Reason.DRAINING),
        ([worker("d", draining=True)], [Role.DECODE], Reason.STARTING),
        ([worker("d", waiting=512)], [], Reason.WORKER_FULL),
        ([worker("d", waiting=500, sent=12)], [Role.DECODE], Reason.WORKER_FULL),
    ],
)
def test_without_a_decode_worker_the_refusal_says_what_is_missing(decode, starting, reason) -> None:
    refused = choose(view([PREFILL], decode, starting, retry_after_s=3.0), REQUEST)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.retry_after_s) == (reason, 3.0)
    assert refusal(view([PREFILL], decode, starting, retry_after_s=3.0)) == refused


def test_always_refuses_rather_than_let_decode_workers_prefill() -> None:
    assert choose(view([], [DECODE], disaggregate="always"), REQUEST).reason is Reason.NO_WORKER
    starting = view([], [DECODE], [Role.PREFILL], disaggregate="always")
    assert choose(starting, REQUEST).reason is Reason.STARTING


def test_full_prefill_workers_are_skipped_and_all_full_is_refused() -> None:
    full = worker("full", waiting=4)
    rules = {"max_queued_prefill_requests": 4}
    assert choose(view([full, worker("p", queued_prompt_tokens=9)], [DECODE], **rules), REQUEST)
    assert choose(view([full], [DECODE], **rules), REQUEST).reason is Reason.WORKER_FULL


workers = st.lists(
    st.builds(
        lambda waiting, running, draining: (waiting, running, draining),
        st.integers(0, 6),
        st.integers(0, 6),
        st.booleans(),
    ),
    max_size=4,
)


@given(workers, workers, st.sampled_from(["auto", "always", "never"]), st.booleans())
def test_a_plan_never_names_a_worker_that_is_full_or_draining(p, d, mode, divisible) -> None:
    def pool(name, loads):
        made = enumerate(loads)
        return [worker(f"{name}{n}", waiting=w, running=r, draining=x) for n, (w, r, x) in made]

    prefill, decode = pool("p", p), pool("d", d)
    rules = {"max_queued_prefill_requests": 4, "max_queued_decode_requests": 4}
    cluster = view(prefill, decode, disaggregate=mode, **rules)
    chosen = choose(cluster, RequestFacts(RequestId("r"), 1, may_disaggregate=divisible))
    free = {w.worker_id for w in (*prefill, *decode) if w.waiting < 4 and not w.draining}
    if isinstance(chosen, Plan):
        assert {chosen.decode, chosen.prefill or chosen.decode} <= free
    else:
        assert mode != "never" or not any(w.startswith("d") for w in free)
