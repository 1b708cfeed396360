from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from baton.settings import SloSettings
from benchmarks.overload_http import Answer, Exchange, message
from benchmarks.overload_plan import (
    PROMPT_TOKENS,
    STEADY,
    Arrival,
    Phase,
    Times,
    arrivals,
    capacity_per_s,
    rates,
    times_for,
)
from benchmarks.overload_result import (
    WORST,
    End,
    Outcome,
    Seen,
    by_reason,
    growth,
    line,
    missed,
    shares,
)
from benchmarks.stolen import Stolen

SLO = SloSettings(ttft_s=2.0, ttft_s_per_1000_tokens=1.0, tpot_s=0.1)
PHASE = Phase(WORST, 10)


def answered(ttft_s: float = 1.0, tpot_s: float = 0.02, tenant: str = "big") -> Outcome:
    return Outcome(tenant, End.ANSWERED, 100, 5.0, 0.0, 2.0, ttft_s, tpot_s)


def ended(end: End, tenant: str = "big", took_s: float = 0.005, reason: str = "") -> Outcome:
    return Outcome(tenant, end, 100, 5.0, 0.001, took_s, reason=reason)


# --- the plan -------------------------------------------------------------------------------------


def test_the_capacity_is_what_the_prefill_workers_can_compute() -> None:
    assert capacity_per_s(Times(prompt_s=0.01, prompt_token_s=0.0004)) == pytest.approx(20.0)


def test_engines_are_made_for_a_capacity() -> None:
    assert capacity_per_s(times_for(5.0)) == pytest.approx(5.0)


@pytest.mark.parametrize("multiple", [1, 2, 5, 20])
def test_tenants_together_ask_for_the_multiple(multiple: int) -> None:
    assert sum(rates(multiple, 20.0).values()) == pytest.approx(multiple * 20.0)


def test_the_steady_tenant_stays_below_its_share_whatever_the_others_do() -> None:
    each = {multiple: rates(multiple, 20.0) for multiple in (1, 20)}
    assert each[1][STEADY] == each[20][STEADY] < 20.0 / len(each[1])
    assert each[20]["big"] / each[20]["other"] == pytest.approx(each[1]["big"] / each[1]["other"])


def test_the_same_seed_plans_the_same() -> None:
    assert arrivals(PHASE, 20.0, 1) == arrivals(PHASE, 20.0, 1) != arrivals(PHASE, 20.0, 2)


def test_arrivals_come_in_order_at_the_rates_of_their_tenants() -> None:
    found = arrivals(Phase(20, 100), 20.0, 1)
    assert [a.at_s for a in found] == sorted(a.at_s for a in found)
    assert found[0].at_s >= 0
    assert found[-1].at_s < 100
    counts = Counter(a.tenant for a in found)
    for tenant, rate in rates(20, 20.0).items():
        assert counts[tenant] == pytest.approx(rate * 100, rel=0.15)
    assert {a.multiple for a in found} == {20}
    lengths = {a.prompt_tokens for a in found}
    assert (min(lengths), max(lengths)) == PROMPT_TOKENS


# --- answers --------------------------------------------------------------------------------------

REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nx-baton-reason: queue_full\r\nretry-after: 2\r\n"
    b'Content-Length: 12\r\n\r\n{"error":{}}'
)
EVENTS = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b'4f\r\ndata: {"choices":[{"text":"a","finish_reason":null}]}\n\n\r\n',
    b'51\r\ndata: {"choices":[{"text":"b","finish_reason":"length"}]}\n\n\r\n',
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
)


def fed(*pieces: bytes) -> tuple[Answer, list[bool]]:
    answer = Answer()
    return answer, [answer.feed(piece, float(at)) for at, piece in enumerate(pieces, 1)]


def test_a_refusal_is_read_with_its_reason() -> None:
    answer, over = fed(REFUSAL)
    assert (answer.status, answer.reason, over) == (429, "queue_full", [True])


def test_a_refusal_may_come_byte_by_byte() -> None:
    answer, over = fed(*(REFUSAL[i : i + 1] for i in range(len(REFUSAL))))
    assert (answer.status, answer.reason) == (429, "queue_full")
    assert over == [False] * (len(REFUSAL) - 1) + [True]


def test_the_first_token_of_a_stream_is_timed_and_the_last_one_known() -> None:
    answer, over = fed(*EVENTS)
    assert over == [False, False, False, True]
    assert (answer.status, answer.first_at, answer.whole) == (200, 2.0, True)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stream_may_come_in_any_pieces(size: int) -> None:
    whole = b"".join(EVENTS)
    answer, over = fed(*(whole[i : i + size] for i in range(0, len(whole), size)))
    assert answer.whole
    assert over.index(True) == len(over) - 1


def test_a_stream_that_ends_in_an_error_is_not_whole() -> None:
    error = b'30\r\ndata: {"error":{"code": "worker_lost"}}\n\n\r\n'
    answer, over = fed(EVENTS[0], EVENTS[1], error, EVENTS[3])
    assert over[-1]
    assert (answer.whole, answer.reason) == (False, "stream: worker_lost")


def test_a_request_says_who_asks_and_how_long_it_is() -> None:
    head, _, body = message("host:1", STEADY, " a b").partition(b"\r\n\r\n")
    assert b"\r\nx-baton-tenant: steady\r\n" in head
    assert head.endswith(f"content-length: {len(body)}".encode())
    assert b'"prompt":" a b"' in body


def told(*pieces: bytes) -> Outcome:
    outcomes: list[Outcome] = []
    exchange = Exchange(Arrival(0.0, WORST, "big", 70), 0.0, outcomes.append)
    if not any(exchange.feed(piece) for piece in pieces):
        exchange.lost("the connection was lost")
    (outcome,) = outcomes
    return outcome


@pytest.mark.parametrize(
    ("pieces", "end", "reason"),
    [
        (EVENTS, End.ANSWERED, ""),
        ((REFUSAL,), End.REFUSED, "queue_full"),
        ((REFUSAL.replace(b"429", b"503"),), End.FAILED, "503 queue_full"),
        ((EVENTS[0], EVENTS[1], EVENTS[3]), End.BROKEN, "without its last token"),
        (EVENTS[:3], End.BROKEN, "the connection was lost"),
        ((), End.FAILED, "the connection was lost"),
    ],
)
def test_every_way_a_request_can_end_is_told_apart(
    pieces: tuple[bytes, ...], end: End, reason: str
) -> None:
    outcome = told(*pieces)
    assert (outcome.end, outcome.reason) == (end, reason)
    assert (outcome.tenant, outcome.prompt_tokens) == ("big", 70)


# --- the result -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (answered(ttft_s=2.1), True),
        (answered(ttft_s=2.11), False),
        (answered(tpot_s=0.11), False),
        (ended(End.UNFINISHED), False),
        (ended(End.BROKEN), False),
        (ended(End.REFUSED), False),
    ],
)
def test_a_promise_is_kept_by_whole_answers_in_time(outcome: Outcome, kept: bool) -> None:
    assert outcome.kept(SLO) is kept


def test_refusals_are_told_apart_by_whether_a_core_stood_still() -> None:
    refusals = [replace(ended(End.REFUSED), sent_s=at, took_s=0.5) for at in (0.0, 1.0, 2.0)]
    seen = Seen(PHASE, 3, [*refusals, answered()], began_at=100.0)
    assert seen.undisturbed_ms(Stolen([(101.2, 101.3)])) == [500.0, 500.0]
    assert len(seen.undisturbed_ms(Stolen())) == 3


def test_attainment_is_of_what_was_let_in() -> None:
    found = shares(
        [
            answered(),
            answered(),
            answered(ttft_s=9),
            *(ended(end) for end in End if end.value != "answered"),
        ],
        SLO,
    )
    assert found["attainment"] == 0.4
    assert found["admitted"] == 5
    assert found["admitted_share"] == pytest.approx(5 / 7, abs=1e-3)
    assert (found["refused"], found["failed"]) == (1, 1)


def test_nothing_let_in_attains_nothing() -> None:
    assert shares([ended(End.REFUSED)], SLO)["attainment"] is None
    assert shares([], SLO)["admitted_share"] is None


def test_reasons_are_counted_by_end() -> None:
    outcomes = [ended(End.REFUSED, reason="queue_full")] * 2 + [ended(End.FAILED, reason="500 x")]
    assert by_reason(outcomes, End.REFUSED) == {"queue_full": 2}
    assert by_reason(outcomes, End.BROKEN, End.FAILED) == {"500 x": 1}


def test_growth_compares_the_second_window_with_the_last() -> None:
    samples = [(0.5, 50), (1.0, 100), (1.9, 100), (5.0, 500), (9.5, 104), (10.0, 106), (11, 900)]
    assert growth(samples, 10.0, 1.0) == pytest.approx(0.05)
    assert growth(samples[:3], 10.0, 1.0) is None


def good() -> Seen:
    seen = Seen(PHASE, 4, rss_bytes=[(1.5, 2**20), (9.5, 2**20)])
    seen.outcomes = [answered(), answered(tenant=STEADY), ended(End.REFUSED, reason="queue_full")]
    return seen


def result(*phases: Seen) -> dict[str, Any]:
    return line(phases, SLO, 1.0, Stolen(watching=True)) | {"left": []}


def test_a_good_run_misses_nothing() -> None:
    found = result(Seen(Phase(1, 10), 0), good())
    assert missed(found) == []
    assert found["admitted_slo_attainment"] == 1.0
    assert found["refusal_ms_p99"] == 5.0
    assert found["router_rss_growth"] == 0.0
    assert found["refused_by_reason"] == {"queue_full": 1}
    assert found["admitted_share_by_tenant"] == {"big": 0.5, STEADY: 1.0}
    assert found["offered_per_s"] == 0.4
    assert found["sent_per_s"] == 0.3
    assert set(found["phases"]) == {"1x", "20x"}


@pytest.mark.parametrize(
    "extra",
    [
        answered(ttft_s=9),
        ended(End.REFUSED, took_s=0.02),
        ended(End.REFUSED, tenant=STEADY),
        ended(End.FAILED),
        ended(End.BROKEN),
    ],
)
def test_each_promise_can_be_missed(extra: Outcome) -> None:
    seen = good()
    seen.outcomes.append(extra)
    assert len(missed(result(seen))) >= 1


def test_what_was_not_measured_is_missed() -> None:
    names = missed(result(Seen(PHASE, 0)))
    assert len(names) == 3


def test_growing_memory_is_missed() -> None:
    seen = good()
    seen.rss_bytes[-1] = (9.5, 2**21)
    assert missed(result(seen)) == ["steady memory"]
    assert missed(result(good()) | {"left": ["process 1"]}) == ["nothing left behind"]
