"""What an engine's steps taught is what is told of work to come."""

from __future__ import annotations

import pytest

from baton.clock import ManualClock
from baton.errors import BatonError, Reason
from baton.messages import WorkerLoad
from baton.wire import worker_pb2 as wire
from engine.frames import FrameDraft, cache_message, costs_message
from engine.holdings import CacheNews
from engine.outlook import Outlook, Word
from engine.ports import StepStats
from engine.step_work import StepWork
from kv_transfer.report import SECONDS_BOUNDS, Times, TransferReport
from tests.fakes.engine import FACTS

REPORT = TransferReport(
    bytes_written=4000, exposed=Times((1, *(0,) * len(SECONDS_BOUNDS)), sum_s=0.5)
)


def outlook() -> Outlook:
    return Outlook(FACTS, ManualClock(5.0))


def test_a_step_tells_of_cache_work_and_transfer() -> None:
    some = outlook()
    work = StepWork(1.0, 100, 5000.0, seconds=0.5)
    some.stepped(None)
    some.stepped(StepStats(0.5, stored=(1, 2), work=work, transfer=REPORT, block_bytes=1000))
    assert some.holdings.leading([1, 2, 3]) == 2
    costs = some.learning.costs
    assert (costs.prefill.samples, costs.transfer.samples) == (1, 1)


def test_a_report_between_steps_is_read_with_the_size_that_a_step_told() -> None:
    some = outlook()
    some.stepped(StepStats(0.5, block_bytes=1000))
    some.stepped(StepStats(0.5))
    some.transferred(None)
    some.transferred(REPORT)
    assert some.learning.costs.transfer.samples == 1


def test_more_blocks_than_the_model_has_room_for_are_none() -> None:
    some, most = outlook(), FACTS.max_model_len_tokens // FACTS.block_size_tokens
    some.join("a", 100, range(most))
    assert some.ignored == 0
    some.join("b", 100, range(most + 1))
    assert some.ignored == 1


def test_the_answer_to_a_probe_is_queue_and_prefill() -> None:
    some = outlook()
    some.join("a", 200, ())
    probe = wire.Probe(leg_id="b", prompt_tokens=300, hold_s=1.0)
    word = some.probed("r", probe, keep=True)
    curve = some.learning.curve
    queue_s = curve.seconds(200, 0)
    assert word == Word(queue_s, 0, queue_s + curve.seconds(300, 0))
    assert some.queue_s() == pytest.approx(word.ttft_s)
    assert some.probed("r", probe, keep=False) == word
    assert some.queue_s() == pytest.approx(queue_s)


def test_a_queue_within_the_bound_is_no_error() -> None:
    some = outlook()
    some.join("a", 200, ())
    for queue_max_s in (0.0, some.queue_s(), 100.0):
        some.check(queue_max_s)
    with pytest.raises(BatonError) as caught:
        some.check(some.queue_s() / 2)
    assert caught.value.reason is Reason.WORKER_FULL
    assert caught.value.retry_after_s == pytest.approx(some.queue_s() / 2)


def test_answers_costs_and_deltas_survive_the_wire() -> None:
    draft = FrameDraft()
    draft.answer("a", Word(0.5, 128, 0.75), "draining")
    some = outlook()
    some.stepped(StepStats(0.5, work=StepWork(1.0, 100, 5000.0, seconds=0.5)))
    costs = some.learning.costs
    sent = draft.frame([], WorkerLoad(), costs=costs)
    sent.cache.CopyFrom(cache_message(CacheNews(3, {1, 2**60 - 1}, {2}, full=False)))
    frame = wire.StepFrame.FromString(sent.SerializeToString())
    (answer,) = frame.answers
    found = (answer.leg_id, answer.queue_s, answer.cached_tokens, answer.ttft_s, answer.refused)
    assert found == ("a", 0.5, 128, 0.75, "draining")
    cache = frame.cache
    assert (cache.number, set(cache.stored), list(cache.removed)) == (3, {1, 2**60 - 1}, [2])
    assert frame.costs == costs_message(costs)
    assert tuple(frame.costs.prefill.coefficients) == costs.prefill.coefficients
    assert (frame.costs.prefill.samples, frame.costs.decode.samples) == (1, 0)
