"""What a step computed, its duration, and its way to the worker."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.step_work import (
    STEP_KEY,
    StepMeter,
    StepReader,
    StepReport,
    StepWork,
    packed,
    to_plain,
    unpacked,
    work_of,
)


def output(
    fresh: dict[str, tuple[int, int]], old: dict[str, tuple[int, int]], drafts: Any = None
) -> Any:
    """A scheduler's output: request → (tokens computed before, tokens in this step)."""
    scheduled = {name: new for name, (_, new) in {**fresh, **old}.items()}
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(req_id=name, num_computed_tokens=before)
            for name, (before, _) in fresh.items()
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=list(old), num_computed_tokens=[before for before, _ in old.values()]
        ),
        num_scheduled_tokens=scheduled,
        total_num_scheduled_tokens=sum(scheduled.values()),
        scheduled_spec_decode_tokens=drafts or {},
    )


def asked(**to_compute: int) -> dict[str, Any]:
    """Requests, by the tokens of their prompt that were not cached."""
    return {
        name: SimpleNamespace(prefill_stats=SimpleNamespace(num_computed_tokens=count))
        for name, count in to_compute.items()
    }


def test_a_step_without_tokens_is_no_work() -> None:
    assert work_of(output({}, {}), {}) is None


def test_a_step_that_decodes() -> None:
    work = work_of(output({}, {"a": (10, 1), "b": (30, 1)}), {})
    assert work == StepWork(decodes=2, kv_tokens=40)


def test_a_step_that_computes_prompts() -> None:
    work = work_of(output({"a": (0, 100), "b": (50, 10)}, {}), asked(a=100, b=10))
    assert work == StepWork(prompts=2.0, new_tokens=110, pairs=100 * 50 + 10 * 55)


def test_a_mixed_step() -> None:
    work = work_of(output({"a": (0, 100)}, {"b": (9, 1), "c": (20, 30)}), asked(a=100, c=60))
    assert work == StepWork(1.5, 130, 100 * 50 + 30 * 35, 1, 9)


def test_a_decode_leg_that_computes_the_last_token_of_its_prompt_decodes() -> None:
    assert work_of(output({"a": (99, 1)}, {}), asked(a=1)) == StepWork(decodes=1, kv_tokens=99)


def test_drafts_are_no_prompt() -> None:
    work = work_of(output({}, {"a": (10, 4)}, drafts={"a": [1, 2, 3]}), {})
    assert work == StepWork(decodes=1, kv_tokens=10)


def test_a_request_that_nothing_is_known_of_is_one_prompt() -> None:
    fresh = output({"a": (0, 7), "b": (0, 7)}, {})
    work = work_of(fresh, {"b": SimpleNamespace(prefill_stats=None)})
    assert work is not None
    assert work.prompts == 2.0


@given(st.lists(st.integers(2, 500), min_size=1, max_size=9), st.integers(0, 5000))
def test_a_prompt_in_chunks_adds_up_to_one_prompt(chunks: list[int], cached: int) -> None:
    total, before = sum(chunks), cached
    works = []
    for chunk in chunks:
        works.append(work_of(output({}, {"a": (before, chunk)}), asked(a=total)))
        before += chunk
    done = [work for work in works if work is not None]
    assert sum(work.prompts for work in done) == pytest.approx(1.0)
    assert sum(work.new_tokens for work in done) == total
    assert sum(work.pairs for work in done) == pytest.approx(total * (cached + total / 2))


# --- durations ------------------------------------------------------------------------------------

WORK = StepWork(decodes=1)


def seconds(found: StepWork | None) -> float:
    assert found is not None
    return found.seconds


def test_a_first_step_takes_from_its_scheduling_to_its_end() -> None:
    meter, step = StepMeter(inline=False), object()
    meter.scheduled(step, WORK, 10.0)
    assert seconds(meter.ended(step, 10.5)) == 0.5


def test_a_busy_engines_step_takes_since_the_step_before() -> None:
    meter = StepMeter(inline=False)
    for began, ended, busy, wanted in [
        (10.0, 10.5, True, 0.5),
        (10.6, 11.0, False, 0.5),
        (20.0, 20.25, True, 0.25),
    ]:
        step = object()
        meter.scheduled(step, WORK, began)
        assert seconds(meter.ended(step, ended)) == wanted
        meter.settled(busy)


def test_a_step_scheduled_ahead_begins_when_the_one_before_has_ended() -> None:
    meter, first, second = StepMeter(inline=False), object(), object()
    meter.scheduled(first, WORK, 10.0)
    meter.scheduled(second, WORK, 10.1)
    assert seconds(meter.ended(first, 11.0)) == 1.0
    meter.settled(busy=False)
    assert seconds(meter.ended(second, 11.5)) == 0.5


def test_a_step_that_is_computed_at_once_takes_until_the_next_call() -> None:
    meter, first, second, third = StepMeter(inline=True), object(), object(), object()
    found = []
    for step, began in ((first, 10.0), (second, 11.0), (third, 13.5)):
        meter.passed(began)
        meter.scheduled(step, WORK, began)
        if step is not first:
            found.append(meter.ended(first if step is second else second, began + 2.0))
            meter.settled(busy=True)
    found.append(meter.ended(third, 15.5))
    # The first until the second was scheduled, the second until the first was digested, and so on.
    assert [seconds(work) for work in found] == [1.0, 2.0, 2.5]


def test_a_step_without_work_counts_as_an_end() -> None:
    meter, empty, step = StepMeter(inline=False), object(), object()
    meter.scheduled(empty, None, 10.0)
    assert meter.ended(empty, 11.0) is None
    meter.settled(busy=True)
    meter.scheduled(step, WORK, 11.2)
    assert seconds(meter.ended(step, 11.5)) == 0.5


def test_a_step_that_nobody_scheduled_is_none() -> None:
    meter = StepMeter(inline=False)
    meter.scheduled(object(), WORK, 1.0)
    assert meter.ended(object(), 2.0) is None


def test_steps_that_never_end_are_forgotten() -> None:
    meter, last = StepMeter(inline=False), object()
    for number in range(1000):
        meter.scheduled(object(), WORK, float(number))
    meter.scheduled(last, WORK, 1000.0)
    assert seconds(meter.ended(last, 1001.0)) == 1.0


# --- its way --------------------------------------------------------------------------------------

KEYS = st.lists(st.integers(0, 2**60 - 1), max_size=9)


@given(KEYS)
def test_keys_survive(keys: list[int]) -> None:
    assert list(unpacked(packed(keys))) == keys


def test_a_report_survives() -> None:
    report = StepReport(StepWork(0.5, 3, 4.5, 6, 7, 0.25), packed([1, 2]), packed([3]), 4, 5)
    assert StepReader().read({"other": 1, STEP_KEY: to_plain(report)}) == report


@pytest.mark.parametrize("stats", [None, {}, {"baton": {}}])
def test_no_report_is_an_empty_one(stats: Any) -> None:
    assert StepReader().read(stats) == StepReport()


@pytest.mark.parametrize("junk", [5, "x", {"work": 3}, {"stored": b"1234567"}, {"removed": [1]}])
def test_junk_is_an_empty_report_and_told_once(junk: Any, caplog: pytest.LogCaptureFixture) -> None:
    reader = StepReader()
    with caplog.at_level(logging.WARNING, "baton.engine"):
        for _ in range(3):
            assert reader.read({STEP_KEY: junk}) == StepReport()
    assert len(caplog.records) == 1
