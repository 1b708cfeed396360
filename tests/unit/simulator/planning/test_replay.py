"""One trace through one cluster: what is counted, and when it is given up."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from simulator.job import End, Record
from simulator.planning.replay import Lack, _Watch, replay, slo_of
from simulator.planning.setups import Setup
from simulator.planning.terms import Kind, Promises
from simulator.traces.request import Request
from tests.unit.simulator.planning.builders import ENGINE, PROMISES, load


def test_an_aggregated_worker_does_both() -> None:
    trial = replay(Setup(ENGINE, Kind.AGGREGATED, 1, 0, 512), load(0.2, 200, 10), PROMISES)
    assert trial.keeps
    assert trial.divided == 0.0
    assert trial.ttft_s == pytest.approx(0.2, rel=0.05)


def test_prompts_stall_the_answers_beside_them() -> None:
    # Twenty tokens take 0.3 s alone, and a prompt that comes in between 1 s.
    busy = load(3.0, 1000, 20)
    for chunk in (256, 2048):
        setup = Setup(ENGINE, Kind.AGGREGATED, 4, 0, chunk)
        assert replay(setup, busy, PROMISES, give_up=False).tpot_s > 0.05
    apart = replay(Setup(ENGINE, Kind.DISAGGREGATED, 4, 1), busy, PROMISES, give_up=False)
    assert apart.tpot_s < 0.03
    assert apart.divided == 1.0


@pytest.mark.parametrize(
    ("prompt", "answer", "lack"), [(1000, 5, Lack.PREFILL), (100, 200, Lack.DECODE)]
)
def test_what_lacks_is_named_and_hopeless_runs_end_early(prompt, answer, lack) -> None:
    long = load(3.0, prompt, answer, requests=400)
    trial = replay(Setup(ENGINE, Kind.DISAGGREGATED, 1, 1), long, PROMISES)
    assert trial.lack is lack
    assert not trial.whole
    assert len(trial.kept) < 300


@pytest.mark.parametrize("kind", [Kind.DISAGGREGATED, Kind.MIXED, Kind.AGGREGATED])
def test_answers_that_give_way_are_computed_again_unheard(kind: Kind) -> None:
    tight = replace(ENGINE, engine=replace(ENGINE.engine, kv_tokens=2500))
    setup = Setup(tight, kind, 2, 0, 512) if kind is Kind.AGGREGATED else Setup(tight, kind, 1, 1)
    trial = replay(setup, load(2.0, 500, 200, requests=60), PROMISES, give_up=False)
    assert trial.whole
    assert len(trial.kept) > 50


def test_the_share_decides() -> None:
    setup, busy = Setup(ENGINE, Kind.DISAGGREGATED, 3, 1), load(3.3, 1000, 5)
    attained = replay(setup, busy, PROMISES, give_up=False).attained
    assert 0.3 < attained < 1
    for share, keeps in ((attained - 0.01, True), (attained + 0.001, False)):
        assert replay(setup, busy, Promises(2.0, 0.0401, share)).keeps is keeps


def test_a_run_that_was_given_up_stays_so() -> None:
    # Of forty one may miss; one has by then, and one waits, whose end has no time when it is cut.
    watch = _Watch(slo_of(PROMISES), 0, 1.0)
    kept, missed = (Record(Request(n, 0.0, 100, 5, (n,))) for n in (0, 1))
    kept.first_s = kept.finished_s = 1.0
    missed.first_s = missed.finished_s = 9.0
    waiting: Any = SimpleNamespace(record=Record(kept.request), request=kept.request)
    watch.flights = {2: waiting}
    assert [watch(kept) for _ in range(19)] == [False] * 19
    kept.finished_s, kept.end = 1.0, End.FINISHED
    missed.end = End.FINISHED
    assert watch(missed)
    watch.flights = {}
    assert all(watch(kept) for _ in range(40))
