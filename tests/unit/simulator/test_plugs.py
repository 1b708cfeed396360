from dataclasses import replace

from baton.ids import WorkerId
from simulator.job import End
from simulator.plugs import Choice, Refused
from simulator.rules import OWN, Fault
from tests.unit.simulator.builders import SLOW_WIRE, approx, request, run, world


class Asking:
    """Asks all and takes the earliest."""

    def __init__(self):
        self.answers = []

    def choose(self, request, view, now):
        answers = view.ask(request, [s.worker_id for s in view.prefill])
        self.answers.append(answers)
        best = min(answers, key=lambda a: a.ttft_s)
        return Choice(best.worker_id, view.decode[0].worker_id, "asked")


def test_asking_costs_a_round_and_tells_the_truth():
    router = Asking()
    rules = world(prefill=2, network=replace(SLOW_WIRE, ask_s=0.25), freshness=OWN)
    first = request(0, 0, 1000, 1, keys=(1, 2))
    outcome = run(rules, first, request(1, 0.3, 500), make_router=lambda _: router)
    assert [r.started_s for r in outcome.records] == approx([0.25, 0.55])
    assert [r.prefill for r in outcome.records] == ["worker-0", "worker-1"]
    told = router.answers[1]
    assert [a.ttft_s for a in told] == approx([0.95 + 0.5, 0.5])
    assert outcome.records[0].reason == "asked"


def test_a_promise_counts_before_it_arrives():
    router = Asking()
    rules = world(prefill=2, network=replace(SLOW_WIRE, ask_s=0.25))
    outcome = run(rules, request(0, 0, 500), request(1, 0, 500), make_router=lambda _: router)
    assert [r.prefill for r in outcome.records] == ["worker-0", "worker-1"]


def test_workers_that_are_lost_do_not_answer():
    router = Asking()
    rules = world(prefill=2, faults=(Fault(0.1, "kill", "worker-0"),))
    run(rules, request(0, 0.2, 500), make_router=lambda _: router)
    assert [a.worker_id for a in router.answers[0]] == ["worker-1"]


class OneAtATime:
    """Keeps all but one prompt per prefill worker in its own queue, shortest first."""

    def __init__(self):
        self.queue, self.busy = [], 0

    def arrived(self, request, view, now):
        self.queue.append(request)
        return [] if self.busy else [self._next(view)]

    def heard(self, view, now, computed):
        self.busy -= computed is not None
        return [self._next(view)] if self.queue and not self.busy else []

    def wakes_at_s(self):
        return None

    def _next(self, view):
        self.queue.sort(key=lambda r: r.input_tokens)
        self.busy += 1
        workers = view.prefill[0].worker_id, view.decode[0].worker_id
        return self.queue.pop(0), Choice(*workers)


def test_a_router_may_keep_its_own_queue():
    requests = [request(n, 0, tokens) for n, tokens in enumerate((1000, 900, 500, 700))]
    outcome = run(world(), *requests, make_router=lambda _: OneAtATime())
    started = sorted(outcome.records, key=lambda r: r.started_s)
    assert [r.request.input_tokens for r in started] == [1000, 500, 700, 900]
    assert [r.started_s for r in started] == approx([0, 1.0, 1.5, 2.2])


class Stubborn:
    def choose(self, request, view, now):
        return Choice(WorkerId("worker-0"), WorkerId("worker-1"))


def test_a_worker_that_takes_nothing_refuses():
    rules = world(prefill=2, faults=(Fault(0.0, "drain", "worker-0"),))
    outcome = run(rules, request(0, 1.0, 500), make_router=lambda _: Stubborn())
    assert outcome.records[0].end is End.LOST


class Strict:
    def choose(self, request, view, now):
        return Refused("too busy")


def test_a_router_may_refuse():
    record = run(world(), request(0, 0, 500), make_router=lambda _: Strict()).records[0]
    assert (record.end, record.reason, record.attempts) == (End.REFUSED, "too busy", 0)
