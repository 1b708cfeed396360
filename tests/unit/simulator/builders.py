"""Small worlds with round numbers: a prompt token takes 1 ms, a decode step 10 ms."""

from collections.abc import Iterable

import pytest

from simulator.cluster_model import Cluster
from simulator.engine_model.times import EngineTimes
from simulator.job import End, Job, Record
from simulator.plain_routers import InTurn, LeastWork
from simulator.plugs import Choice
from simulator.results import Outcome
from simulator.rules import ClusterRules, EngineRules, NetworkRules
from simulator.traces.request import Request, Trace, blocks_of

ROUND = EngineTimes(0, 0, 0.001, 0, 0, 0.010, 0, 0, 0, 0, 1000)
"""Prefill 1 ms per token, nothing else; a step 10 ms whatever the batch; 1,000 bytes per token."""

SLOW_WIRE = NetworkRules(bytes_per_s=1e7, host_bytes_per_s=1e7, latency_s=0.0, layers=1)
"""0.1 ms per token of `ROUND`."""

NO_WIRE = NetworkRules(bytes_per_s=1e30, host_bytes_per_s=1e30, latency_s=0.0)


def approx(expected):
    """Equal to a microsecond."""
    return pytest.approx(expected, abs=1e-6)


def request(
    number: int, at_s: float, tokens: int, answer: int = 1, keys: Iterable[int] | None = None
) -> Request:
    """A request; without keys it shares nothing with others."""
    blocks = tuple(1000 * (number + 1) + i for i in range(blocks_of(tokens)))
    return Request(number, at_s, tokens, answer, tuple(keys) if keys is not None else blocks)


def trace(*requests: Request) -> Trace:
    return Trace("test", requests)


def world(**changes: object) -> ClusterRules:
    """One worker of each pool, times of `ROUND`, no transfer time."""
    basis: dict[str, object] = {"prefill": 1, "decode": 1, "network": NO_WIRE}
    basis |= {"engine": EngineRules(kv_tokens=100_000, max_batched_tokens=8192)}
    return ClusterRules(ROUND, **(basis | changes))


class Solo:
    """Everything on the first decode worker."""

    def choose(self, request, view, now):
        return Choice(None, view.decode[0].worker_id) if view.decode else None


class Watching:
    """A cluster whose engines' memory is checked after each event."""

    def __init__(self, rules, make_router=InTurn, controller=None):
        self.cluster = Cluster(rules, make_router, controller)

    def run(self, trace: Trace) -> Outcome:
        step = self.cluster.clock.step

        def checked_step() -> float:
            now = step()
            for worker in self.cluster.fleet.workers.values():
                worker.engine.pool.check()
            return now

        self.cluster.clock.step = checked_step
        outcome = self.cluster.run(trace)
        check_emptiness(self.cluster)
        check_records(outcome, trace)
        return outcome


def run(rules: ClusterRules, *requests: Request, make_router=InTurn, controller=None) -> Outcome:
    return Watching(rules, make_router, controller).run(trace(*requests))


def check_emptiness(cluster: Cluster) -> None:
    """Nothing is left over in workers that were not lost."""
    assert not cluster.flights
    assert not cluster.holding.flights
    for worker in cluster.fleet.workers.values():
        assert not worker.flights, worker.worker_id
        engine = worker.engine
        if engine.stopped:
            continue
        queues = (engine.waiting, engine.ready, engine.computing, engine.decoding)
        assert not any(queues)
        assert (engine.pool.used, engine.pool.private, engine.kv_tokens) == (0, 0, 0)
        assert engine.queued_tokens == 0
        assert abs(engine.queued_work_s) < 1e-6
        assert (worker.inbound, worker.inbound_tokens, worker.promised_tokens) == (0, 0, 0)
        assert not worker.wanting


def check_records(outcome: Outcome, trace: Trace) -> None:
    """Every request ended once, and the parts of its TTFT are what they say."""
    assert [r.request for r in outcome.records] == list(trace.requests)
    for record in outcome.records:
        assert record.end is not None
        if record.end is End.FINISHED:
            assert min(record.parts_s) >= -1e-9, record
            assert abs(sum(record.parts_s) - record.ttft_s) < 1e-9
            assert record.finished_s >= record.first_s


def least(_router: int) -> LeastWork:
    return LeastWork()


def job(request: Request, kind, generated: int = 0) -> Job:
    return Job(Record(request), kind, generated)


class Ears:
    """A listener that writes down what it hears."""

    def __init__(self):
        self.heard: list[tuple[str, int, float]] = []

    def __getattr__(self, name):
        return lambda job, now: self.heard.append((name, job.number, round(now, 9)))
