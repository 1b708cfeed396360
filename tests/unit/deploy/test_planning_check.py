"""`baton plan --check` with the pages of a router that are made up from known requests."""

import json
from pathlib import Path

import pytest

from deploy import cli
from deploy.planning import check
from simulator.planning.planner import PlanError
from simulator.planning.terms import Kind, Promises
from tests.unit.simulator.planning.test_hardware import written

WORKERS = [{"role": role, "up": True} for role in ("prefill", "decode", "decode")]


def row(number: int, **changes: object) -> dict[str, object]:
    basis = {"age_s": 1000.0 - number, "prompt_tokens": 1200, "cached_tokens": 0}
    times = {"output_tokens": 20, "ttft_s": 0.135, "tpot_s": 0.0051, "divided": True}
    return basis | times | changes


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    pages: dict[str, object] = {
        "/requests": {"requests": [row(n) for n in range(40)]},
        "/status": {"workers": WORKERS, "routers": [{"replaced": True}, {"replaced": False}]},
    }
    monkeypatch.setattr(check, "get_json", lambda reach, path: (200, pages[path]))
    monkeypatch.setattr(check, "status_page", lambda reach: pages["/status"])
    return pages


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    options = ["--slo", "ttft=1,tpot=0.05", "--url", "http://127.0.0.1:1"]
    return ["plan", "--check", *options, "--profile", str(written(tmp_path))]


def test_a_quiet_hour_is_predicted(pages, words, capsys) -> None:
    assert cli.main([*words, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requests"] == 40
    assert found["measured"] == {"ttft_s": 0.135, "tpot_s": 0.0051, "attained": 1.0}
    # 10 ms and 1,200 prompt tokens of 0.1 ms, then a step of 5 ms.
    assert found["predicted"]["ttft_s"] == pytest.approx(0.138, abs=0.005)
    assert found["predicted"]["tpot_s"] == pytest.approx(0.0051, rel=0.02)


def test_both_stand_beside_each_other(pages, words, capsys) -> None:
    pages["/requests"] = {"requests": [row(n, ttft_s=0.276) for n in range(40)]}
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "40 requests on 1 prefill + 2 decode workers, disaggregated" in said
    assert "-50%" in said or "-49%" in said


def test_what_was_cached_is_cached_in_the_replay() -> None:
    rows = [row(n, cached_tokens=1024 if n else 0) for n in range(30)]
    keys = [request.blocks for request in check.trace_of(rows).requests]
    assert all(k[:2] == keys[1][:2] for k in keys[1:])
    assert keys[0][0] != keys[1][0]
    assert len({k[2] for k in keys}) == 30


def test_who_serves_is_read_from_the_status() -> None:
    rows = [row(1), row(2, divided=False)]
    assert check.setup_of([*WORKERS, {"role": "prefill", "up": False}], rows) == (
        Kind.MIXED,
        1,
        2,
    )
    with pytest.raises(PlanError, match="0 prefill, 2 decode"):
        check.setup_of(WORKERS[1:], rows)


def test_too_little_is_said(pages, words, capsys) -> None:
    pages["/requests"] = {"requests": [row(1)]}
    assert cli.main(words) == 2
    assert "1 requests in the last hour are too few" in capsys.readouterr().err
    pages["/requests"] = {"detail": "Not Found"}
    assert cli.main(words) == 2
    assert "does not tell of its requests" in capsys.readouterr().err


def test_a_part_of_the_requests_is_not_held_against_all_workers(pages, words, capsys) -> None:
    pages["/status"] = {"workers": WORKERS, "routers": [{"replaced": False}] * 2}
    assert cli.main(words) == 2
    assert "2 routers share these workers" in capsys.readouterr().err


def test_figures_go_to_a_file_and_no_report_is_promised(pages, words, tmp_path, capsys) -> None:
    file = tmp_path / "check.json"
    assert cli.main([*words, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["requests"] == 40
    assert cli.main([*words, "--html", "report.html"]) == 2
    assert "--html goes with plans" in capsys.readouterr().err


def test_answers_of_one_token_have_no_time_between() -> None:
    rows = [row(n, tpot_s=None, ttft_s=0.1 * (n % 2)) for n in range(20)]
    found = check.measured(rows, Promises(0.05, 0.01))
    assert (found.tpot_s, found.attained) == (0.0, 0.5)


@pytest.mark.parametrize(
    "more",
    [["--rate", "2"], ["--one-load"], ["--kind", "mixed"], ["--html", "x.html"], ["--seeds", "3"]],
)
def test_options_that_would_do_nothing_are_refused(more, pages, words, tmp_path, capsys) -> None:
    more = [str(tmp_path / word) if word.endswith(".html") else word for word in more]
    assert cli.main([*words, *more]) == 2
    assert f"{more[0]} goes with plans" in capsys.readouterr().err
