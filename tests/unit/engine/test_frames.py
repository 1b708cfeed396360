"""A step frame carries what was put in, through its wire encoding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baton.messages import LegTimes, WorkerLoad
from baton.wire import worker_pb2 as wire
from engine.frames import FrameDraft, load_message

COUNT = st.integers(0, 2**32 - 1)
BIG = st.integers(0, 2**64 - 1)
LOADS = st.builds(
    WorkerLoad,
    running=COUNT,
    waiting=COUNT,
    kv_used=st.floats(0, 1),
    queued_prompt_tokens=BIG,
    steps=BIG,
    step_s=st.floats(0, 1e6),
    draining=st.booleans(),
    prefix_queried_tokens=BIG,
    prefix_hit_tokens=BIG,
    preemptions=BIG,
    steps_s=st.floats(0, 1e6),
)
TIMES = st.tuples(*[st.floats(0, 1e6)] * 4)
HANDED = st.lists(st.tuples(st.text(), st.binary(), COUNT, TIMES), max_size=4)
ENDED = st.lists(
    st.tuples(st.text(), st.text(), st.text(), st.none() | st.floats(0, 1e9)), max_size=4
)


def through_the_wire(frame: wire.StepFrame) -> wire.StepFrame:
    return wire.StepFrame.FromString(frame.SerializeToString())


@given(st.lists(st.binary(), max_size=4), LOADS, HANDED, ENDED)
def test_everything_arrives_in_order(
    outputs: list[bytes],
    load: WorkerLoad,
    handed: list[tuple[str, bytes, int, tuple[float, ...]]],
    ended: list[tuple[str, str, str, float | None]],
) -> None:
    draft = FrameDraft()
    for each in handed:
        draft.prefilled(*each[:3], LegTimes(*each[3]))
    for end in ended:
        draft.end(*end)
    frame = through_the_wire(draft.frame(outputs, load))
    assert list(frame.outputs) == outputs
    assert [
        (
            p.leg_id,
            p.handed,
            p.cached_tokens,
            (p.times.room_s, p.times.fetch_s, p.times.queue_s, p.times.compute_s),
        )
        for p in frame.prefilled
    ] == handed
    found = [(e.leg_id, e.reason, e.message, e.retry_after_s) for e in frame.ended]
    assert found == [(*end[:3], end[3] or 0.0) for end in ended]


@given(LOADS)
def test_no_field_of_the_load_is_lost(load: WorkerLoad) -> None:
    message = wire.Load.FromString(load_message(load).SerializeToString())
    names = [field.name for field in wire.Load.DESCRIPTOR.fields]
    assert WorkerLoad(**{name: getattr(message, name) for name in names}) == load


def test_a_heartbeat_is_the_load_alone() -> None:
    frame = FrameDraft().frame([], WorkerLoad(running=2))
    assert frame == wire.StepFrame(load=wire.Load(running=2))
