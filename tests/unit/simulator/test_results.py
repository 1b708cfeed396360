import math

import pytest

from baton.ids import WorkerId
from simulator.job import End, Record
from simulator.results import Outcome, Slo, highest_load, percentile
from tests.unit.simulator.builders import request


def record(number: int, ttft_s: float, tpot_s: float, end: End = End.FINISHED) -> Record:
    first_s = 10 + ttft_s
    asked = request(number, 10, 100, 11)
    moments = (10, 10, 10, 10, first_s, first_s + 10 * tpot_s)
    return Record(asked, 0, None, None, "", *moments, hit_tokens=25, attempts=1, end=end)


def outcome(*records: Record) -> Outcome:
    tokens = {WorkerId("a"): 300, WorkerId("b"): 100}
    return Outcome(records, 100.0, 9, 150.0, 250.0, 2, 3, 0, tokens)


def test_a_promise_is_met_by_both():
    slo = Slo(2.0, 0.04)
    assert slo.met(record(0, 2.0, 0.039))
    assert not slo.met(record(0, 2.1, 0.03))
    assert not slo.met(record(0, 1.0, 0.05))
    assert not slo.met(record(0, 1.0, 0.03, End.LOST))


def test_summary():
    records = [record(0, 9, 9), record(1, 1, 0.03), record(2, 3, 0.03), record(3, 1, 0.05)]
    lost = record(4, 0, 0, End.LOST)
    s = outcome(*records, lost).summary(unscored=1)
    assert (s.requests, s.finished) == (4, 3)
    assert (s.attained, s.ttft_attained, s.tpot_attained) == (0.25, 0.5, 0.5)
    assert (s.ttft_p50_s, s.ttft_p90_s) == pytest.approx((1, 3))
    assert sum(s.parts_s) == pytest.approx(5 / 3)
    assert s.hit_share == 0.25


def test_cost_and_balance():
    o = outcome()
    assert (o.mean_workers, o.imbalance) == (4.0, 0.5)
    assert o.gpu_hours == pytest.approx(800 / 3600)
    assert o.summary().ttft_p90_s == math.inf


def test_percentiles_are_values_that_occurred():
    assert [percentile([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.9, 1)] == [1, 2, 4, 4]


@pytest.mark.parametrize("limit", [0.13, 1.0, 5.0, 37.0])
def test_the_highest_load_is_found(limit):
    found = highest_load(lambda load: 0.95 if load <= limit else 0.2, 2.0, precision=0.01)
    assert limit * 0.99 <= found <= limit


def test_a_cluster_that_serves_nothing_well_has_no_goodput():
    assert highest_load(lambda load: 0.0, 2.0) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        highest_load(lambda load: 1.0, 0)
