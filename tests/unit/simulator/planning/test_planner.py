"""Plans for loads whose answer can be worked out by hand."""

from dataclasses import replace

import pytest

from simulator.engine_model.times import EngineTimes
from simulator.planning.planner import PlanError, Point, Question, _surely, _surer, at, plan
from simulator.planning.replay import Lack, Trial
from simulator.planning.setups import Family, Setup
from simulator.planning.terms import Kind, Promises
from simulator.planning.verdict import break_even, verdict
from simulator.traces.request import Trace
from tests.unit.simulator.planning.builders import ENGINE, PROMISES, TIMES, load, question


def test_long_answers_need_decode() -> None:
    # 400 tokens/s, and a worker gives 150 within 40 ms: three; prompts keep a fifth of one busy.
    found = plan(question(load(2.0, 100, 200), kinds=(Kind.DISAGGREGATED,))).best
    assert found is not None
    assert (found.trial.setup.prefill, found.trial.setup.decode) == (1, 3)


def test_long_prompts_need_prefill() -> None:
    # 3.6 s of prompts a second, and what is not always busy.
    found = plan(question(load(3.6, 1000, 5), kinds=(Kind.DISAGGREGATED,))).best
    assert found is not None
    assert found.trial.setup.prefill in (4, 5)
    assert found.trial.setup.decode == 1


def test_little_load_is_cheaper_together() -> None:
    found = plan(question(load(0.2, 200, 20)))
    assert found.best is not None
    assert found.best.trial.setup.kind is Kind.AGGREGATED
    assert found.best.trial.setup.gpus == 1
    said = " ".join(verdict(found))
    assert "Disaggregation does not pay here: 2 GPUs instead of 1" in said


def test_stalled_answers_are_cheaper_apart() -> None:
    # A worker that does both and keeps 40 ms computes prompts in steps that leave no time: most of
    # a prompt's 1 ms per token then has to fit beside answers.
    wide = question(load(2.0, 1000, 20), promises=Promises(2.0, 0.0151))
    found = plan(wide)
    said = " ".join(verdict(found))
    apart = found.of(Kind.DISAGGREGATED)
    assert apart is not None
    assert apart.keeps
    assert "Disaggregate" in said or "Disaggregation pays" in said


def test_what_nobody_can_promise_is_said_with_its_distance() -> None:
    found = plan(question(load(0.5, 100, 20), promises=Promises(2.0, 0.005)))
    assert found.best is None
    said = verdict(found)[0]
    assert said.startswith("Not within 12 GPUs: no cluster keeps the promises.")
    assert "0.0%" in said
    assert "TPOT 15.0 ms (5 promised)" in said


def test_other_loads_give_the_break_even() -> None:
    found = plan(question(load(0.2, 200, 20), ladder=(0.5, 2.0)))
    assert [round(p.per_s, 1) for p in found.points] == [0.1, 0.2, 0.4]
    assert [p.gpus(Kind.AGGREGATED) for p in found.points] == [1, 1, 1]
    assert break_even(found) is None
    assert "no load from which two pools stay cheaper" in verdict(found)[-1]


@pytest.mark.parametrize(
    ("together", "apart", "turn"),
    [
        ((1, 2, 4), (2, 2, 3), 4.0),
        ((3, 3, 4), (2, 2, 3), 1.0),
        ((1, 4, 4), (2, 3, 4), None),
        # What neither serves says nothing, and what only one serves says who does.
        ((3, 3, None), (2, 2, None), 1.0),
        ((3, None, None), (3, 2, None), 2.0),
    ],
)
def test_two_pools_have_to_stay_cheaper(together, apart, turn) -> None:
    found = plan(question(load(0.2, 200, 20)))
    points = tuple(
        Point(
            float(2**i),
            {
                Kind.AGGREGATED: t and Setup(ENGINE, Kind.AGGREGATED, t, 0, 256),
                Kind.DISAGGREGATED: a and Setup(ENGINE, Kind.DISAGGREGATED, a - 1, 1),
            },
        )
        for i, (t, a) in enumerate(zip(together, apart, strict=True))
    )
    assert break_even(type(found)(found.question, found.found, points, (), 0.0, 0.0)) == turn


def test_one_way_alone_has_no_break_even() -> None:
    found = plan(question(load(0.2, 200, 20), kinds=(Kind.DISAGGREGATED,), ladder=(2.0,)))
    assert break_even(found) is None
    assert verdict(found)[-1] == "Break-even: not asked, only one way was."


def test_what_does_not_fit_at_the_load_is_asked_again_below_it() -> None:
    found = plan(question(load(9.0, 200, 20), gpus_max=2, ladder=(0.01,)))
    assert found.best is None
    assert found.points[0].gpus(Kind.AGGREGATED) == 1
    assert found.points[-1].gpus(Kind.AGGREGATED) is None


def test_the_cheaper_engine_wins() -> None:
    # Two GPUs that are as fast as one are a waste.
    pair = type(ENGINE)("pair", TIMES, ENGINE.engine, 2)
    found = plan(question(load(0.2, 200, 20), hardware=(pair, ENGINE)))
    assert found.best is not None
    assert found.best.trial.setup.hardware.name == "round"
    assert {f.trial.setup.hardware.name for f in found.found} == {"round", "pair"}


def test_questions_without_an_answer_are_refused() -> None:
    asked = question(load(1.0, 100, 5, requests=3))
    with pytest.raises(PlanError, match="0 requests per second"):
        at(asked, 0.0)
    with pytest.raises(PlanError, match="all come at once"):
        question(Trace("one", load(1.0, 100, 5).requests[:1]))
    with pytest.raises(PlanError, match="1 GPUs are fewer than one cluster of these kinds takes"):
        question(asked.trace, hardware=(type(ENGINE)("pair", TIMES, ENGINE.engine, 2),), gpus_max=1)
    alone = replace(ENGINE, cores=1)
    with pytest.raises(PlanError, match="12 GPUs and 1 cores are fewer than one cluster"):
        question(asked.trace, hardware=(alone,), kinds=(Kind.DISAGGREGATED,))


def test_engines_without_gpus_have_cores_of_their_own() -> None:
    # Two are not enough, and a third would slow the first down.
    heavy = load(2.0, 100, 200)
    found = plan(question(heavy, hardware=(replace(ENGINE, cores=2),)))
    assert found.best is None
    assert {trial.setup.workers for trial in found.tried} <= {1, 2}
    found = plan(question(heavy, hardware=(replace(ENGINE, cores=4),), kinds=(Kind.DISAGGREGATED,)))
    assert found.best is not None
    assert found.best.trial.setup.workers == 4


def test_other_loads_may_take_another_engine() -> None:
    slow = EngineTimes(0, 0, 0.004, 0, 0, 0.030, 0.005, 0, 0, 0, 1000)
    pair = replace(ENGINE, name="pair", gpus=3)
    small = replace(ENGINE, name="small", times=slow)
    choices = {"hardware": (pair, small), "kinds": (Kind.AGGREGATED,)}
    found = plan(question(load(4.0, 200, 20), **choices, ladder=(0.05,)))
    assert found.best is not None
    assert found.best.trial.setup.hardware.name == "pair"
    assert found.points[0].cheapest[Kind.AGGREGATED].hardware.name == "small"


class Scripted:
    """Trials by setup, of which each seed has its own."""

    def __init__(self, asked: Question, shares: dict[Setup, tuple[float, ...]]) -> None:
        self.question = asked
        self._shares = shares

    def __call__(self, setup: Setup) -> Trial:
        return self.whole(setup)[0]

    def whole(self, setup: Setup) -> list[Trial]:
        return [_trial(setup, share) for share in self._shares[setup]]


def _trial(setup: Setup, share: float) -> Trial:
    lack = Lack.NOTHING if share >= PROMISES.share else Lack.DECODE
    kept = tuple(n < share * 100 for n in range(100))
    return Trial(setup, share, lack, 1.0, 0.01, 1.0, 0.0, 1.0, True, kept)


def test_a_split_that_holds_for_one_seed_gives_way_to_the_one_beside_it() -> None:
    family = Family(ENGINE, Kind.DISAGGREGATED)
    three, four = family.options(3), family.options(4)
    shares = {three[0]: (0.91, 0.80), three[1]: (0.89, 0.95)} | dict.fromkeys(four, (0.99, 0.99))
    asked = question(load(1.0, 100, 5), seeds=2)
    near = _surely(_trial(three[0], 0.91), Scripted(asked, shares))
    assert near.near
    assert _surer(near, family, 4, Scripted(asked, shares)).trial.setup.workers == 4
    shares[three[1]] = (0.92, 0.95)
    assert _surer(near, family, 4, Scripted(asked, shares)).trial.setup == three[1]
