"""What counts as kept, and what windows remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import Reason
from baton.settings import SloSettings
from router.attainment import (
    BROKEN,
    FAULTS,
    PARTS,
    PROMISES,
    UNCOUNTED,
    WINDOWS_S,
    Attainment,
    Ending,
    Verdict,
    burn,
    judge,
)

# 3 s for a prompt of 1,000 tokens.
SLO = SloSettings(ttft_s=2.0, ttft_s_per_1000_tokens=1.0, tpot_s=0.1)
KEPT, LATE, SLOW = (
    Verdict(ttft, tpot, ttft and tpot)
    for ttft, tpot in ((True, True), (False, True), (True, False))
)


def judged(
    reason: Reason | None = None, *, ttft_s: float | None = 3.0, tpot_s=0.1, tokens=11, lasted_s=0.0
) -> Verdict:
    lasted_s = lasted_s or (ttft_s or 0.0) + tpot_s * (tokens - 1)
    return judge(SLO, 1000, Ending(reason, lasted_s, ttft_s, tokens))


def test_who_ends_well_counts_by_its_times() -> None:
    assert judged(tpot_s=0.099) == KEPT
    assert judged(ttft_s=3.01, tpot_s=0.05) == LATE
    assert judged(tpot_s=0.11) == SLOW
    assert judged(tokens=1) == KEPT


def test_an_answer_without_news_of_its_first_token_came_at_once() -> None:
    assert judged(ttft_s=None, lasted_s=2.9) == KEPT
    assert judged(ttft_s=None, lasted_s=3.1) == LATE


@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.WORKER_FULL, Reason.INTERNAL])
def test_faults_of_the_cluster_break_every_promise(reason: Reason) -> None:
    assert judged(reason, tpot_s=0.01) == BROKEN


def test_faults_of_the_request_do_not_count() -> None:
    assert judged(Reason.INVALID_REQUEST) == UNCOUNTED
    assert not FAULTS & {Reason.CANCELLED, Reason.DEADLINE_EXCEEDED, Reason.UNSUPPORTED}


def test_who_leaves_counts_with_what_it_got() -> None:
    assert judged(Reason.CANCELLED, ttft_s=None, lasted_s=60.0) == UNCOUNTED
    assert judged(Reason.CANCELLED, tpot_s=0.2) == SLOW
    assert judged(Reason.CANCELLED, tokens=1) == KEPT


def test_a_deadline_before_the_promise_was_due_is_nobodys_fault() -> None:
    expired = Reason.DEADLINE_EXCEEDED
    assert judged(expired, ttft_s=None, lasted_s=2.9) == UNCOUNTED
    assert judged(expired, ttft_s=None, lasted_s=3.1) == Verdict(False, None, False)
    assert judged(expired, tpot_s=0.05) == KEPT


def test_a_window_forgets_part_by_part() -> None:
    one, part_s = Attainment(), WINDOWS_S["5m"] / PARTS
    assert one.share("5m", "both", 0.0) is None
    one.add(LATE, 0.0)
    one.add(KEPT, 150.0)
    assert one.share("5m", "ttft", 150.0) == 0.5
    assert one.share("5m", "tpot", 150.0) == 1.0
    assert one.share("5m", "ttft", 300.0 - part_s) == 0.5
    assert one.share("5m", "ttft", 300.0) == 1.0
    assert one.share("5m", "both", 450.0) is None
    assert one.share("6h", "both", 450.0) == 0.5


def test_what_does_not_count_is_in_no_window() -> None:
    one = Attainment()
    one.add(UNCOUNTED, 0.0)
    one.add(Verdict(False, None, False), 0.0)
    assert [one.share("1h", promise, 0.0) for promise in PROMISES] == [0.0, None, 0.0]


def test_a_clock_that_jumps_back_loses_nothing() -> None:
    one = Attainment()
    one.add(KEPT, 100.0)
    one.add(LATE, 10.0)
    assert one.share("5m", "ttft", 100.0) == 0.5


def test_the_budget_burns_as_fast_as_promises_are_broken() -> None:
    assert burn(1.0, 0.9) == 0.0
    assert burn(0.9, 0.9) == pytest.approx(1.0)
    assert burn(0.0, 0.99) == pytest.approx(100.0)


@given(st.lists(st.tuples(st.floats(0, 4000), st.booleans(), st.booleans()), max_size=80))
def test_each_window_has_what_came_in_it_and_stays_small(steps: list) -> None:
    one, now, seen = Attainment(), 0.0, []
    for passed_s, ttft, tpot in steps:
        now += passed_s
        one.add(Verdict(ttft, tpot, ttft and tpot), now)
        seen.append((now, ttft))
    for name, seconds in WINDOWS_S.items():
        assert len(one._windows[name]._parts) <= PARTS
        part_s = seconds / PARTS
        kept = [met for at, met in seen if int(at / part_s) > int(now / part_s) - PARTS]
        assert one.share(name, "ttft", now) == (sum(kept) / len(kept) if kept else None)
