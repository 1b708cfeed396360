"""What counts as good in a run on several hosts."""

from __future__ import annotations

import pytest

from benchmarks.faults_result import Result
from benchmarks.hosts_result import Cut, Figures, plan_of


def cut(**given: object) -> Cut:
    made = Cut("prefill", 5.0, given_up=bool(given.pop("given_up", False)), served_during=3)
    for name, value in given.items():
        setattr(made, name, value)
    return made


def figures(*cuts: Cut, wire_bytes: int = 12) -> Figures:
    return Figures(4, 10, wire_bytes, list(cuts), 30.0, 0)


@pytest.mark.parametrize(
    ("found", "ok"),
    [
        (cut(), True),
        (cut(served_during=0), False),
        (cut(restarted=["prefill-0"]), False),
        (cut(given_up=True), False),
        (cut(given_up=True, restarted=["prefill-0"]), True),
    ],
)
def test_only_what_was_given_up_is_started_again(found: Cut, ok: bool) -> None:
    assert found.ok is ok
    assert figures(found).line(Result(quick=True), 1.0)["ok"] is ok


@pytest.mark.parametrize("bad", ["lost", "wrong", "hung"])
def test_one_bad_request_is_too_many(bad: str) -> None:
    result = Result(quick=True)
    setattr(result, bad, 1)
    assert not figures(cut()).line(result, 1.0)["ok"]


def test_kv_that_did_not_leave_the_host_went_another_way() -> None:
    line = figures(cut(), wire_bytes=9).line(Result(quick=True), 1.0)
    assert (line["kv_over"], line["ok"]) == ("unknown", False)
    assert figures(cut()).kv_over == "tcp"


@pytest.mark.parametrize(("quick", "short"), [(True, False), (False, True), (False, False)])
def test_each_host_that_is_cut_off_exists_and_is_not_the_first(quick: bool, short: bool) -> None:
    plan = plan_of(quick=quick, short=short)
    first, *others = plan.roles
    assert {each.host for each in plan.cuts} <= set(others)
    assert plan.roles[first] == "decode"
    assert "prefill" in plan.roles.values()
