"""The search finds the cheapest cluster in few replays, and says when there is none."""

import pytest

from simulator.planning.replay import Lack, Trial
from simulator.planning.search import Start, cheapest, first_start, need_of, walked
from simulator.planning.setups import Family, Setup
from simulator.planning.terms import Kind
from tests.unit.simulator.planning.builders import ENGINE, PROMISES, load

POOLS = Family(ENGINE, Kind.DISAGGREGATED)
TOGETHER = Family(ENGINE, Kind.AGGREGATED)


class Needs:
    """Says what a cluster lacks that has fewer workers than are needed."""

    def __init__(self, prefill: int, decode: int) -> None:
        self.prefill, self.decode = prefill, decode
        self.asked: list[Setup] = []

    def __call__(self, setup: Setup) -> Trial:
        self.asked.append(setup)
        short = (self.prefill - setup.prefill, self.decode - setup.decode)
        lack = Lack.NOTHING
        if max(short) > 0:
            lack = Lack.PREFILL if short[0] >= short[1] else Lack.DECODE
        attained = 1 - max(short[0], 0) / 20 - max(short[1], 0) / 20
        return Trial(setup, attained, lack, 1, 1, 1, 0, 0, True, (True,))


@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (4, 2), (2, 7), (11, 3), (1, 15)])
@pytest.mark.parametrize("start", [Start(2, 0.5), Start(9, 0.0), Start(30, 1.0)])
def test_the_cheapest_split_is_found(prefill: int, decode: int, start: Start) -> None:
    needs = Needs(prefill, decode)
    found = cheapest(POOLS, needs, 40, start).setup
    assert (found.prefill, found.decode) == (prefill, decode)


def test_a_good_guess_costs_few_replays() -> None:
    needs = Needs(6, 4)
    cheapest(POOLS, needs, 64, Start(10, 5 / 8))
    assert len(needs.asked) <= 5


def test_a_bad_guess_costs_not_many_more() -> None:
    needs = Needs(25, 1)
    cheapest(POOLS, needs, 200, Start(200, 1.0))
    assert len({setup.workers for setup in needs.asked}) <= 10


def test_what_cannot_be_had_is_the_best_of_the_most() -> None:
    found = cheapest(POOLS, Needs(9, 9), 10, Start(4, 0.5))
    assert not found.keeps
    assert found.setup.workers == 10


def test_too_few_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="disaggregated needs 2 workers, 1 are allowed"):
        cheapest(POOLS, Needs(1, 1), 1, Start(2, 0.5))


def test_chunks_are_walked_towards_what_lacks() -> None:
    def trial(setup: Setup) -> Trial:
        lacks = {256: Lack.PREFILL, 512: Lack.PREFILL, 1024: Lack.NOTHING, 2048: Lack.DECODE}
        lack = lacks[setup.chunk_tokens]
        return Trial(setup, 0.95 if lack is Lack.NOTHING else 0.5, lack, *([1] * 5), True, ())

    for along in (0.0, 1.0):
        best, where = walked(TOGETHER.options(3), along, trial)
        assert best.setup.chunk_tokens == 1024
        assert where == pytest.approx(2 / 3)


def test_the_first_guess_is_the_work() -> None:
    # 3/s of prompts that take 1 s keep 3 workers busy; 30 tokens/s of 150 a fifth of one.
    need = need_of(load(3.0, 1000, 10), ENGINE, PROMISES)
    assert need.prefill == pytest.approx(3.0, rel=0.04)
    assert need.decode == pytest.approx(0.2, rel=0.04)
    start = first_start(POOLS, need, PROMISES)
    assert start.workers == 5
    assert start.along == pytest.approx(1.0)
