"""The benchmark's shell, its bookkeeping, and what it writes."""

import json
import random
from pathlib import Path

import pytest

from benchmarks import routing, routing_costs, routing_r1, routing_report, routing_sweeps
from benchmarks.routing_baselines import RULES
from benchmarks.routing_runs import BLIND, FRESH, Load, Runs, interval, mean, requests_of
from simulator.reference import Score
from simulator.traces.request import TraceError


def line(at_ms: int, tokens: int = 600) -> str:
    keys = list(range(-(-tokens // 512)))
    row = {"timestamp": at_ms, "input_length": tokens, "output_length": 9, "hash_ids": keys}
    return json.dumps(row) + "\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no request"),
        (line(0) + "\n" + line(1), ":2: the line is empty"),
        (line(5) + line(4), ":2: 0.004 s comes after 0.005 s"),
        (line(0) + "{", ":2: not JSON"),
        ('{"timestamp": ' + "9" * 5000 + "}\n", ":1: not JSON: numbers too long"),
        (line(10**18), ":1: timestamp has to be at most"),
        (line(0).replace("600", "1e99"), ":1: input_length has to be at most"),
        ("".join(map(line, range(9))), "9 requests; the first 500"),
        (line(7) * 600, "all requests come at once"),
    ],
)
def test_a_bad_trace_ends_with_one_line(tmp_path, capsys, text, why):
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    assert routing.main(["--quick", "--trace", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(str(path))
    assert error.count("\n") == 1
    assert why in error


def test_other_files_that_cannot_be_used(tmp_path, capsys):
    missing = tmp_path / "nowhere" / "file"
    assert routing.main(["--trace", str(missing)]) == 2
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(map(line, range(600))))
    assert routing.main(["--trace", str(path), "--profile", str(missing)]) == 2
    assert routing.main(["--quick", "--trace", str(path), "--json", str(missing)]) == 2
    assert routing.main(["--trace", str(path), "--profile", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 4


def test_plots_need_their_library(tmp_path, capsys, monkeypatch):
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(map(line, range(600))))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert routing.main(["--quick", "--trace", str(path), "--plots", str(tmp_path)]) == 2
    assert "matplotlib" in capsys.readouterr().err


def test_a_load_is_the_trace_cut_and_stretched(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(line(1000 * n, 30_000) for n in range(600)))
    made = requests_of(Load(2.0, path, requests=550))
    assert (len(made), made[0].tokens, len(made[0].blocks)) == (550, 20_480, 40)
    assert made[-1].at_s == pytest.approx(550 / 2.0)
    with pytest.raises(TraceError):
        requests_of(Load(2.0, tmp_path / "none"))


def test_runs_are_remembered_and_the_same_in_any_number_of_processes():
    load = Load(8.0, keys=16, requests=560)
    cases = [(rule, setting, load) for rule in ("Baton", "DualMap") for setting in (FRESH, BLIND)]
    runs = Runs(1)
    alone = runs.means(cases, 2)
    assert runs.means(cases[:1], 2)[0] == alone[0]
    assert Runs(2).means(cases, 2) == alone
    assert all(len(m.scores) == 2 for m in alone)


def score(attained: float) -> Score:
    return Score(attained, 1.0, 2.0, 3.0, 0.25, 0.05)


def test_an_interval_is_students():
    assert interval([0.5]) == 0
    assert interval([0.4, 0.5, 0.6]) == pytest.approx(4.30 * 0.1 / 3**0.5)
    assert mean([score(0.5), score(0.7)]).of("ttft_p90_s") == 2.0


def test_what_a_decision_takes_is_the_median_of_the_fastest_rounds():
    quiet = [routing_costs._Times([5.0, 7.0], [], [], 1.0) for _ in range(10)]
    interrupted = routing_costs._Times([5.0, 70.0], [], [], 1.0)
    slow = [routing_costs._Times([9.0, 14.0], [], [], 1.0) for _ in range(22)]
    assert routing_costs._typical([*slow, interrupted, *quiet]) == [5.0, 7.0]


def test_every_round_makes_the_same_decisions_for_different_prompts(monkeypatch):
    monkeypatch.setattr(routing_costs, "_SESSIONS", 20)
    decider, seen = routing_costs._Decider(random.Random(0)), []
    decide = decider._decide
    monkeypatch.setattr(decider, "_decide", lambda blocks: (seen.append(blocks), decide(blocks)))
    times = [decider.round() for _ in range(2)]
    assert seen[:20] == seen[20:]
    assert len(set(seen)) == 20
    assert [len(t.cpu_us) for t in times] == [20, 20]


def test_one_change_of_membership_moves_few_keys():
    assert 0.5 < routing_sweeps.moved_keys(8, [1, 2]) <= 1.3


def test_quick_and_full_plans_have_the_strongest_rivals():
    for plan in (routing_r1.QUICK, routing_r1.FULL):
        assert {"Preble", "sticky 80 %", "min TTFT"} <= set(plan.rules["fresh"])
        assert {"DualMap", "DualMap+queue", "single hash"} <= set(plan.rules["blind"])
    full = routing_r1.FULL
    assert all({*rules, *full.first_only} == set(RULES) for rules in full.rules.values())


def test_every_sweep_has_baton_and_a_rival():
    plan, trace = routing_sweeps.Plan(), Path("trace")
    cases = [
        *routing_sweeps._by_load(trace, plan),
        *routing_sweeps._by_view(trace, plan),
        *routing_sweeps._by_workers(trace, plan),
        *routing_sweeps._by_keys(plan),
        *routing_sweeps._by_membership(trace),
    ]
    places = {(c.sweep, c.series, c.x) for c in cases if "asking" not in c.series}
    for place in places:
        rules = {c.rule for c in cases if (c.sweep, c.series, c.x) == place}
        assert {"Baton", "DualMap"} <= rules, place
    assert {c.sweep for c in cases} == set(routing_report._TITLES)


def test_the_report_has_a_row_per_point():
    point = routing_sweeps.Point("load", "one fresh router", "6", "Baton", mean([score(0.99)]))
    row = {
        "r1_fresh": 0.99,
        "r1_fresh_best_baseline": 0.98,
        "r1_fresh_best_baseline_name": "Preble",
        "r1_blind": 0.8,
        "dualmap_blind": 0.7,
        "best_blind_baseline": 0.7,
        "best_blind_baseline_name": "DualMap",
        "r1_ask": 0.95,
        "intervals": {"fresh": 0.0, "blind": 0.01, "ask": 0.0},
    }
    result = {
        "by_load": {"6": row},
        "r2_fresh_each": {"Baton": 9.0},
        "r2_stale_each": {"Baton": 8.0},
    }
    text = routing_report.markdown([point], result)
    assert "| one fresh router | 6 | Baton | 0.990 ± 0.000 | 1.00 | 2.00 | 3.00 |" in text
    assert "| 6 | 0.990 ± 0.000 | 0.980 (Preble) | 0.800 ± 0.010 |" in text
    assert "| Baton | 9.0 | 8.0 |" in text
    assert routing_report.as_json([point])[0]["ttft_p90_s"] == 2.0
