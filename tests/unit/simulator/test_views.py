import pytest

from baton.ids import WorkerId
from baton.messages import Role
from simulator.fleet import Fleet
from simulator.job import Kind
from simulator.plugs import Choice
from simulator.rules import FRESH, OWN, ClusterRules, EngineRules, Freshness
from simulator.views import RouterView
from tests.unit.simulator.builders import ROUND, Ears, job, request

P, D = WorkerId("worker-0"), WorkerId("worker-1")
CHOICE = Choice(P, D)
STALE = Freshness(every_s=1.0)
STALE_OWN_CACHE = Freshness(cache="own", every_s=1.0)
PROMPT = request(1, 0, 1300, 1, keys=(7, 8, 9))


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet(ClusterRules(ROUND, 1, 1, EngineRules(kv_tokens=10_000)), Ears())
    for role in (Role.PREFILL, Role.DECODE):
        fleet.join(fleet.start(role, 0.0))
    return fleet


def submit(fleet: Fleet, one, now: float) -> None:
    leg, engine = job(one, Kind.PREFILL), fleet.workers[P].engine
    engine.expect(leg)
    engine.submit(leg, now)


def test_a_fresh_view_is_the_truth(fleet):
    view = RouterView(0, FRESH, fleet).at(0.0)
    view.sent(PROMPT, CHOICE, 0.0)
    submit(fleet, PROMPT, 0.0)
    sight = view.at(0.3).prefill[0]
    assert (sight.waiting, sight.queued_tokens, sight.pending_tokens) == (1, 1300, 0)
    assert (sight.queued_work_s, sight.step_left_s) == pytest.approx((1.3, 1.0))
    assert (sight.kv_used, sight.kv_capacity, sight.host) == (1300, 10_000, "host-0")
    # What is scheduled can be found at once, the unfinished block excepted.
    assert sight.cached_tokens(PROMPT) == 1024
    assert view.decode[0].cached_tokens(PROMPT) == 0


def test_a_stale_view_knows_the_last_report_and_what_it_sent_since(fleet):
    view = RouterView(0, STALE, fleet).at(0.0)
    view.sent(PROMPT, CHOICE, 0.2)
    submit(fleet, PROMPT, 0.2)
    sight = view.at(0.3).prefill[0]
    assert (sight.queued_tokens, sight.cached_tokens(PROMPT), sight.seen_s) == (0, 0, 0.0)
    assert (sight.pending_requests, sight.pending_tokens) == (1, 1300)
    assert view.decode[0].pending_requests == 1
    reports = view.take_reports(0.5)
    view.sent(request(2, 0, 100), CHOICE, 0.6)
    assert sight.queued_tokens == 0
    view.apply(reports)
    assert (sight.queued_tokens, sight.cached_tokens(PROMPT), sight.seen_s) == (1300, 1024, 0.5)
    assert (sight.pending_requests, sight.pending_tokens) == (1, 100)
    assert sight.pending_work_s == pytest.approx(0.1)


def test_an_own_cache_is_what_was_sent(fleet):
    view = RouterView(0, STALE_OWN_CACHE, fleet).at(0.0)
    sight = view.prefill[0]
    submit(fleet, PROMPT, 0.0)
    view.apply(view.take_reports(0.1))
    assert (sight.queued_tokens, sight.cached_tokens(PROMPT)) == (1300, 0)
    view.sent(PROMPT, CHOICE, 0.2)
    assert sight.cached_tokens(PROMPT) == 1024
    # 10,000 tokens are 19 blocks: a longer prompt pushes the older out, tail first.
    view.sent(request(2, 0, 18 * 512), CHOICE, 0.3)
    assert sight.cached_tokens(PROMPT) == 512


def test_own_loads_count_until_news_come(fleet):
    view = RouterView(0, OWN, fleet).at(0.0)
    submit(fleet, request(9, 0, 800), 0.0)
    prefill, decode = view.prefill[0], view.decode[0]
    assert prefill.queued_tokens == 0
    view.sent(PROMPT, CHOICE, 0.0)
    again = request(2, 0, 1300, 1, keys=(7, 8, 9))
    view.sent(again, CHOICE, 0.0)
    assert (prefill.waiting, prefill.queued_tokens) == (2, 1300 + 276)
    assert (decode.batch, decode.kv_tokens) == (2, 2600)
    view.computed(PROMPT)
    view.computed(PROMPT)
    assert (prefill.waiting, prefill.queued_tokens, decode.batch) == (1, 276, 2)
    view.ended(PROMPT)
    view.ended(again)
    view.ended(again)
    assert (prefill.waiting, prefill.queued_tokens) == (0, 0)
    assert (decode.batch, decode.kv_tokens, decode.kv_used) == (0, 0, 0)
    assert prefill.queued_work_s == pytest.approx(0)


def test_members_are_always_known(fleet):
    view = RouterView(0, STALE, fleet).at(0.0)
    worker = fleet.start(Role.PREFILL, 1.0)
    assert len(view.at(2.0).prefill) == 1
    fleet.join(worker)
    assert len(view.at(3.0).prefill) == 2
    assert view.prefill[1].seen_s == 3.0
    fleet.drain(fleet.workers[P], 4.0)
    assert [s.worker_id for s in view.at(4.0).prefill] == [worker.worker_id]


def test_answers_are_true_and_counted(fleet):
    view = RouterView(0, OWN, fleet).at(0.0)
    submit(fleet, PROMPT, 0.0)
    view.at(0.5)
    (answer,) = view.ask(request(2, 0, 1300, 1, keys=(7, 8, 9)), [P])
    assert (answer.cached_tokens, answer.queued_tokens) == (1024, 1300)
    assert (answer.queue_s, answer.ttft_s) == pytest.approx((0.8, 0.8 + 0.276))
    assert view.rounds == 1
