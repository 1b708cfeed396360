"""The scaling benchmark's shell, its bookkeeping, and the rival laws."""

from dataclasses import replace

import pytest

from benchmarks import scaling, scaling_report
from benchmarks.routing_runs import Runs, seeds
from benchmarks.scaling_laws import (
    RIVALS,
    Counts,
    Driven,
    Dynamo,
    HeteroScale,
    LlmD,
    RayServe,
    Scene,
    Static,
    Steady,
)
from benchmarks.scaling_report import Point, at_cost
from benchmarks.scaling_runs import BATON, Job, Score, mean, run
from benchmarks.scaling_world import RAMP, SCENARIOS, Scenario, Stage, made, ramp
from simulator.results import Slo
from tests.unit.simulator.test_scaler import DECODE, PREFILL, VIEW

SCENE = Scene(Slo(3.0, 0.1), Counts(1, 1), Counts(4, 8), 1000.0, 1000.0)


def point(law, workers, attained, aim=0.5, scenario="ramp"):
    return Point(scenario, law, aim, 60.0, Score(attained, workers, 1.0, 1.0, 0))


def test_the_ramp_is_the_published_one():
    trace = ramp(1)
    assert len(trace.requests) == 12_480
    assert trace.seconds == pytest.approx(sum(seconds for _, seconds in RAMP), abs=1.0)
    assert all(3500 <= r.input_tokens <= 4500 for r in trace.requests)
    assert ramp(1) == trace
    assert ramp(2) != trace


def test_random_arrivals_have_their_rate():
    trace = made("x", (Stage(5.0, 1000),), 1)
    assert len(trace.requests) == pytest.approx(5000, rel=0.05)
    arrivals = [r.arrival_s for r in trace.requests]
    assert arrivals == sorted(arrivals)


def test_equal_cost_is_read_between_any_two_points():
    points = [point("a", 5.0, 0.8), point("a", 7.0, 1.0)]
    assert at_cost(points, 6.0) == pytest.approx(0.9)
    assert at_cost(points, 7.0) == 1.0
    assert at_cost(points, 6.95) == 1.0
    assert at_cost(points, 4.0) is None


def test_the_best_rival_is_not_dearer():
    points = [point(BATON, 6.0, 0.99), point("a", 5.5, 0.9), point("b", 7.0, 1.0)]
    rivals = scaling_report.equal_cost(points)
    assert rivals == {"a": 0.9, "b": None}
    assert scaling_report.best(rivals) == ("a", 0.9)


def test_the_last_line_has_what_was_promised():
    aim = scaling._AIM
    points = [
        point(BATON, 5.8, 0.99, aim),
        point("a", 5.5, 0.9),
        point(BATON, 3.0, 0.98, aim, "azure"),
        point(BATON, 3.0, 1.0, aim, "constant 4"),
    ]
    result = scaling.summed(points)
    assert result["ramp_attainment"] == 0.99
    assert result["best_rival"] == {"law": "a", "attainment_at_equal_cost": 0.9}
    assert result["azure_gpu_hours_vs_peak"] == 0.5
    assert (result["dropped"], result["actions_per_hour"]) == (0, 1.0)
    assert "| ramp | a | 0.5 | 60 | 0.9000 | 5.50 |" in scaling_report.table(points)
    assert scaling_report.as_json(points)[0]["workers"] == 5.8


def test_quick_and_full_runs_have_every_law():
    for cases in (list(scaling._quick()), list(scaling._full())):
        on_ramp = {case.law for case in cases if case.scenario == "ramp"}
        assert on_ramp | {"static peak"} == {BATON, *RIVALS}
        assert all(case.scenario in SCENARIOS for case in cases)
    assert all(c.seeds >= 3 for c in scaling._quick() if (c.law, c.scenario) == (BATON, "ramp"))


def test_every_run_says_that_it_is_done(capsys, monkeypatch):
    monkeypatch.setattr(scaling, "run", lambda job: Score(0.5, job.seed, 1.0, 2.0, 0))
    cases = [scaling.Case("ramp", "a", 0.5, seeds=2), scaling.Case("azure", "b", 1.0, seeds=1)]
    points, cpu_s = scaling.measured(Runs(1), cases, scaling.TRACE)
    first, second = list(seeds(2))
    assert [p.score.workers for p in points] == [(first + second) / 2, first]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(f"3/3 azure, b 1, start-up 60 s, seed {first}: 0.5000 at")
    assert cpu_s >= 0


def test_near_laws_run_with_more_than_one_seed():
    found = {(c.scenario, c.law): c.seeds for c in scaling._full()}
    assert found["random ramp", BATON] == found["random ramp", "Dynamo planner"] == 5
    assert found["constant 6", BATON] == 5
    assert found["ramp", "HeteroScale"] == 3
    assert found["ramp", "Ray Serve"] == found["azure", "HeteroScale"] == 1


def test_files_that_cannot_be_used(tmp_path, capsys, monkeypatch):
    trace = tmp_path / "trace.csv"
    assert scaling.main(["--quick", "--trace", str(trace)]) == 2
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n")
    missing = tmp_path / "nowhere" / "file"
    assert scaling.main(["--quick", "--trace", str(trace), "--json", str(missing)]) == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert scaling.main(["--quick", "--trace", str(trace), "--plots", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def short(seed, _path):
    return made("short", (Stage(4, 120), Stage(8, 120)), seed)


@pytest.mark.parametrize("law", [BATON, *RIVALS])
def test_every_law_serves_every_request(law, monkeypatch):
    scenario = Scenario("short", short, Counts(1, 2), Counts(2, 6), Counts(1, 2))
    monkeypatch.setitem(SCENARIOS, "short", scenario)
    aim = scaling._AIM if law == BATON else RIVALS[law].aims[0]
    score = run(Job(law, "short", 1, aim))
    assert score.dropped == 0
    assert 3 <= score.workers <= 8
    assert 0 <= score.attained <= 1
    assert run(Job(law, "short", 1, aim)) == score


def test_a_mean_adds_up_what_was_dropped():
    both = mean([Score(0.5, 4.0, 1.0, 2.0, 1), Score(1.0, 6.0, 3.0, 4.0, 2)])
    assert (both.attained, both.workers, both.per_hour, both.dropped) == (0.75, 5.0, 3.0, 3)


# --- the rival laws -------------------------------------------------------------------------------

CALM = replace(
    VIEW,
    prefill=replace(PREFILL, starting=0, latency_s=(0.3,) * 10, backlog_s=(0.1, 0.1)),
    decode=replace(DECODE, draining=0, latency_s=(0.03,) * 10),
    unplaced=0,
    unplaced_tokens=0,
    oldest_s=0.3,
)


def test_static_is_the_peak():
    assert Static(SCENE, 1.0)(Counts(1, 1), CALM, 0.0) == SCENE.most
    assert Driven(Static(SCENE, 1.0)).decide(CALM, None, 0.0)[0].decode == 8


def test_stabilization_waits_both_ways():
    steady = Steady(30.0, 100.0, down_one_per_s=50.0)
    said = [steady(Counts(2, 2), Counts(4, 1), t) for t in (0.0, 20.0, 40.0)]
    assert [s.prefill for s in said] == [4, 4, 4]
    steady = Steady(30.0, 100.0, down_one_per_s=50.0)
    steady(Counts(2, 4), Counts(2, 4), 0.0)
    assert steady(Counts(2, 4), Counts(2, 1), 50.0).decode == 4
    assert steady(Counts(2, 4), Counts(2, 1), 110.0).decode == 3
    assert steady(Counts(2, 3), Counts(2, 1), 120.0).decode == 3
    assert steady(Counts(2, 3), Counts(2, 1), 165.0).decode == 2


def test_llm_d_steps_in_proportion():
    law = LlmD(SCENE, 0.55)
    late = replace(CALM, prefill=replace(CALM.prefill, latency_s=(3.3,) * 10))
    assert law(Counts(2, 1), late, 0.0) == Counts(4, 2)
    assert law._one(4, 4, 0.5) == 4
    assert law._one(4, 4, 0.2) == 2
    assert law._one(4, 2, 1.1) == 4


def test_ray_serve_counts_requests():
    law = RayServe(SCENE, 2.0)
    assert law(Counts(2, 1), CALM, 0.0) == Counts(4, 5)


def test_the_planner_has_a_floor_and_waits_for_changes():
    law = Dynamo(SCENE, 0.5)
    assert law(Counts(2, 1), replace(CALM, output_tokens=60_000), 0.0) == Counts(4, 4)
    waiting = replace(CALM, unplaced_tokens=20_000)
    law = Dynamo(replace(SCENE, prefill_tokens_per_s=1e9), 0.5)
    slow = replace(waiting, prefill=replace(CALM.prefill, backlog_s=(9.0, 9.0)))
    assert law(Counts(2, 1), slow, 0.0).prefill == 3
    pending = replace(slow, prefill=replace(slow.prefill, starting=1))
    assert law(Counts(3, 1), pending, 5.0).prefill == 3


def test_heteroscale_keeps_its_ratio():
    law = HeteroScale(SCENE, 0.5)
    busy = replace(CALM, finished_tokens=60_000)
    assert law(Counts(1, 1), busy, 0.0) == Counts(2, 4)
    assert law(Counts(1, 1), replace(CALM, finished_tokens=15_000), 0.0) == Counts(1, 1)
