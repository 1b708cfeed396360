"""One trace through one cluster: what is counted, and when it is given up."""

import pytest

from simulator.planning.replay import Lack, replay
from simulator.planning.setups import Setup
from simulator.planning.terms import Kind, Promises
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


def test_the_share_decides() -> None:
    setup, busy = Setup(ENGINE, Kind.DISAGGREGATED, 3, 1), load(3.3, 1000, 5)
    attained = replay(setup, busy, PROMISES, give_up=False).attained
    assert 0.3 < attained < 1
    for share, keeps in ((attained - 0.01, True), (attained + 0.001, False)):
        assert replay(setup, busy, Promises(2.0, 0.0401, share)).keeps is keeps
