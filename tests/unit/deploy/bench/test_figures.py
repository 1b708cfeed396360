"""What outcomes come to."""

from array import array

import pytest

from baton.errors import StartupError
from deploy.bench.client import UNFINISHED, Outcome, shown
from deploy.bench.figures import Slo, figures, parse_slo
from deploy.bench.runner import Run


def answer(due_s: float, ttft_s: float = 0.1, gaps_s: tuple[float, ...] = (0.1, 0.3)) -> Outcome:
    return Outcome(
        0, due_s, due_s + 0.001, 1000, len(gaps_s) + 1, 500, ttft_s, array("d", gaps_s),
        ttft_s + sum(gaps_s), "",
    )  # fmt: skip


def failure(due_s: float, kind: str, retry_after_s: float | None = None, said: str = "") -> Outcome:
    return Outcome(0, due_s, due_s, 10, failure=kind, retry_after_s=retry_after_s, detail=said)


def test_latencies_and_rates() -> None:
    run = Run([answer(0.5), *(answer(1.0 + i, ttft_s=(i + 1) / 10) for i in range(10))], took_s=12)
    found = figures(run, Slo(), warmup_s=1.0, load_s=11.0)
    assert (found.requests, found.completed, found.good) == (10, 10, 10)
    assert found.offered_per_s == found.goodput_per_s == 1.0
    ttft = found.latency["ttft"]
    assert (ttft.count, ttft.p50, ttft.p90, ttft.p99, ttft.most) == (10, 0.5, 0.9, 1.0, 1.0)
    assert ttft.mean == pytest.approx(0.55)
    assert found.latency["tpot"].p50 == pytest.approx(0.2)
    itl = found.latency["itl"]
    assert (itl.count, itl.p50, itl.p90) == (20, 0.1, 0.3)
    assert found.latency["e2e"].most == pytest.approx(1.4)
    # The last was sent at 10.001 and took 1.4; the window began at 1.
    assert found.output_tokens_per_s == pytest.approx(30 / 10.401)
    assert (found.input_tokens, found.cached_tokens) == (10_000, 5_000)
    assert found.late_p99_s == pytest.approx(0.001)
    assert not found.late


def test_goodput_counts_those_that_keep_every_promise() -> None:
    slow_start, slow_tokens = answer(1, ttft_s=0.6), answer(2, gaps_s=(0.5, 0.5))
    run = Run([answer(0), slow_start, slow_tokens, failure(3, "timeout")])
    found = figures(run, parse_slo("ttft=0.5,tpot=0.3"), 0.0, 4.0)
    assert (found.requests, found.completed, found.good) == (4, 3, 1)
    assert (found.goodput_per_s, found.attained) == (0.25, 0.25)
    assert figures(run, parse_slo("ttft=0.7"), 0.0, 4.0).good == 3
    assert figures(run, parse_slo("e2e=0.55"), 0.0, 4.0).good == 1
    # 1,000 tokens each: 0.5 s more.
    assert figures(run, parse_slo("ttft=0.1,ttft_per_1000=0.5"), 0.0, 4.0).good == 3


def test_failures_by_kind() -> None:
    full = [failure(i, "HTTP 429 queue_full", wait, "full") for i, wait in enumerate((1, 3, None))]
    found = figures(Run([answer(0), failure(1, "timeout"), *full]), Slo(), 0.0, 5.0)
    assert list(found.failures) == ["HTTP 429 queue_full", "timeout"]
    kind = found.failures["HTTP 429 queue_full"]
    assert (kind.count, kind.retry_after, kind.retry_after_s, kind.example) == (3, 2, 2.0, "full")
    assert found.as_json()["failures"]["timeout"]["count"] == 1
    assert found.as_json()["failed"] == 4


def test_what_an_end_by_hand_leaves_out_and_one_by_time_does_not() -> None:
    outcomes = [answer(0), failure(1, UNFINISHED)]
    found = figures(Run(outcomes, interrupted=True, took_s=2.0), Slo(), 0.0, 10.0)
    assert (found.requests, found.unfinished, found.window_s) == (1, 1, 2.0)
    found = figures(Run(outcomes, took_s=20.0), Slo(), 0.0, 10.0)
    assert (found.requests, found.completed, found.unfinished) == (2, 1, 0)


def test_a_late_generator_is_told() -> None:
    outcome = answer(0, ttft_s=0.1)
    outcome.sent_s = 0.2
    assert figures(Run([outcome]), Slo(), 0.0, 1.0).late


def test_nothing_came() -> None:
    found = figures(Run([failure(0, "no connection")]), Slo(), 0.0, 1.0)
    assert (found.completed, found.latency, found.attained) == (0, {}, 0.0)
    assert found.as_json()["goodput_per_s"] == 0


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=0", "ttft=x", "speed=1", "tpot=nan", "ttft_per_1000=1"]
)
def test_what_is_no_promise(text: str) -> None:
    with pytest.raises(StartupError):
        parse_slo(text)


def test_an_answer_in_one_chunk_has_no_tpot() -> None:
    whole = answer(0, gaps_s=())
    whole.output_tokens = 9
    assert whole.tpot_s is None
    assert "tpot" not in figures(Run([whole]), Slo(), 0.0, 1.0).latency


def test_a_report_does_not_tell_a_password() -> None:
    assert shown("http://me:secret@host:8000/base") == "http://host:8000/base"
    assert shown("http://host:8000") == "http://host:8000"


def test_a_load_that_is_due_at_once_has_the_rate_at_which_it_was_served() -> None:
    found = figures(Run([answer(0.0)] * 10, took_s=5.0), Slo(), 0.0, 0.0)
    assert found.offered_per_s == 2.0
