"""`baton plan` from the command line to its report, with a small trace and a made-up engine."""

import json
from pathlib import Path

import pytest

from deploy import cli
from tests.unit.simulator.planning.test_hardware import written


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "calls.csv"
    rows = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0000000,400,20" for n in range(120)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return path


@pytest.fixture
def words(tmp_path: Path, trace: Path) -> list[str]:
    profile = str(written(tmp_path))
    return ["plan", "--trace", str(trace), "--slo", "ttft=1,tpot=0.05", "--profile", profile]


def test_a_plan_is_words_figures_and_a_report(words, tmp_path, capsys) -> None:
    page, figures = tmp_path / "plan.html", tmp_path / "plan.json"
    more = ["--seeds", "1", "--html", str(page), "--json", str(figures)]
    assert cli.main([*words, *more]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Cheapest: 1 aggregated, chunks of")
    assert "Disaggregation does not pay here: 2 GPUs instead of 1" in said.out
    assert "keeps" in said.err
    found = json.loads(figures.read_text())
    assert found["feasible"] is True
    assert found["found"][0]["gpus"] == 1
    assert found["found"][0]["attained_low"] <= found["found"][0]["attained"]
    assert len(found["loads"]) == 5
    html = page.read_text()
    assert html.count("<svg") == 2
    assert "http" not in html
    assert "src=" not in html


def test_what_cannot_be_kept_is_1(words, capsys) -> None:
    words[words.index("ttft=1,tpot=0.05")] = "ttft=1,tpot=0.001"
    assert cli.main([*words, "--one-load", "--gpus-max", "3", "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["feasible"] is False
    assert "TPOT 5.1 ms (1 promised)" in found["verdict"][0]


@pytest.mark.parametrize(
    ("slo", "why"),
    [
        ("ttft=2", "'tpot' is missing"),
        ("ttft=2,tpot=fast", "could not convert"),
        ("ttft=2,tpot=0", "above 0 seconds"),
        ("ttft=2,tpot=0.1,percentile=100", "between 0 and 100"),
        ("ttft=2,itl=1", "is not NAME=VALUE with ttft, tpot, percentile"),
    ],
)
def test_a_wrong_promise_is_2(words, slo, why, capsys) -> None:
    words[words.index("ttft=1,tpot=0.05")] = slo
    assert cli.main(words) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"--trace": "nowhere.csv"}, "nowhere.csv: No such file"),
        ({"--profile": "nowhere.json"}, "nowhere.json: No such file"),
        ({"--rate": "0"}, "'0' is no number above 0"),
        ({"--profile": "x.json,gpus=half"}, "could not convert"),
        ({"--profile": "x.json,gpus=0"}, "gpus is no whole number above 0"),
    ],
)
def test_wrong_files_and_numbers_are_2(words, change, why, capsys) -> None:
    for option, value in change.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    assert cli.main(words) == 2
    assert why in capsys.readouterr().err


def test_files_of_another_kind_are_2(words, tmp_path, trace, capsys) -> None:
    profile = words[words.index("--profile") + 1]
    words[words.index("--trace") + 1] = profile
    assert cli.main(words) == 2
    assert "of no known format; --format says which" in capsys.readouterr().err
    words[words.index("--trace") + 1] = str(trace)
    words[words.index("--profile") + 1] = str(trace)
    assert cli.main(words) == 2
    assert "calls.csv: not JSON" in capsys.readouterr().err


def test_a_made_up_load_needs_a_rate(words, capsys) -> None:
    made = ["plan", "--synthetic", "chat", *words[3:]]
    assert cli.main(made) == 2
    assert "--synthetic needs a load" in capsys.readouterr().err
    more = ["--rate", "2", "--requests", "80", "--one-load", "--seeds", "1"]
    assert cli.main([*made, *more]) == 0
    assert "chat at 2/s: 80 requests" in capsys.readouterr().out


def test_a_place_for_the_report_is_looked_for_before_the_work(words, tmp_path, capsys) -> None:
    assert cli.main([*words, "--html", str(tmp_path / "no" / "plan.html")]) == 2
    told = capsys.readouterr().err
    assert "plan.html cannot be written: No such file or directory" in told
    assert "keeps" not in told
