"""Layers leave one by one, each when the device has computed it, and land as a whole."""

from __future__ import annotations

import pytest

from kv_transfer.orders import Begin, Cover, Done, Preempt
from kv_transfer.ticket.messages import Written
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import Two, layout_of

LAYERS = 4
LARGE = layout_of(LAYERS, size=256 * 1024)
"""Any piece of it is worth a write."""
SMALL = layout_of(LAYERS)


def two_of(layout: object = LARGE) -> Two:
    """Both ends, registered, with nothing computed."""
    two = Two(layout)
    two.prefill.agent.memory = [[0] * layout.blocks for _ in range(LAYERS)]
    legs.open_source(two)
    legs.target(two)
    two.run()
    return two


def pieces(two: Two) -> list[tuple[int, int, tuple[int, ...]]]:
    """(first layer, layers, targets) of what was written."""
    return [(w.layer, w.layers, w.targets) for w in two.prefill.agent.writes]


def assert_in_place(two: Two) -> None:
    expected = [[legs.computed_of(layer, i) for i in range(4)] for layer in range(LAYERS)]
    assert two.decode.agent.content(legs.TARGETS) == expected
    assert (two.decode.received, two.decode.failed) == ({"d1": 1}, {})
    written = [
        (layer, block)
        for first, layers, targets in pieces(two)
        for layer in range(first, first + layers)
        for block in targets
    ]
    assert sorted(written) == [(layer, block) for layer in range(LAYERS) for block in legs.TARGETS]


def test_each_layer_leaves_when_it_is_computed_and_not_before() -> None:
    two = two_of()
    step = legs.Step(two, 4)
    for layer in range(LAYERS):
        two.run()
        assert pieces(two) == [(i, 1, legs.TARGETS) for i in range(layer)]
        assert not two.decode.received
        step.compute(layer + 1)
    two.run()
    assert_in_place(two)
    legs.finish(two)
    two.run()
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_layers_that_are_ready_together_leave_together() -> None:
    two = two_of()
    step = legs.Step(two, 4)
    step.compute(3)
    two.run()
    assert pieces(two) == [(0, 3, legs.TARGETS)]
    step.compute(4)
    two.run()
    assert pieces(two) == [(0, 3, legs.TARGETS), (3, 1, legs.TARGETS)]
    assert [m.sums for m in two.network.said(Written)] == [
        two.prefill.agent.sums(legs.SOURCES, 0, 3),
        two.prefill.agent.sums(legs.SOURCES, 3, 1),
    ]
    assert_in_place(two)


def test_a_step_that_is_done_leaves_as_one_write() -> None:
    two = two_of()
    legs.Step(two, 4).compute(LAYERS)
    two.run()
    assert pieces(two) == [(0, LAYERS, legs.TARGETS)]
    assert_in_place(two)


def test_what_is_computed_without_a_device_needs_nobody_to_say_so() -> None:
    two = two_of()
    step = legs.Step(two, 0)
    step.blocks = legs.SOURCES
    step.compute(LAYERS)
    covers = (Cover(legs.KEY, 0, legs.SOURCES, 4),)
    two.prefill.mover.feed([Done(covers, 1), Done(covers, 2), Done(covers, LAYERS)])
    two.run()
    assert pieces(two) == [(0, LAYERS, legs.TARGETS)]
    assert_in_place(two)


def test_layers_of_different_steps_are_not_merged() -> None:
    two = two_of()
    first = (Cover(legs.KEY, 0, legs.SOURCES[:2], 2),)
    second = (Cover(legs.KEY, 0, legs.SOURCES, 4),)
    two.prefill.mover.feed([Begin(legs.KEY), Done(first, LAYERS), Done(second, 1)])
    two.run()
    assert pieces(two) == [(0, LAYERS, (20, 21)), (0, 1, (22, 23))]


def test_a_later_step_waits_for_the_one_before() -> None:
    two = two_of()
    first, second = legs.Step(two, 2), legs.Step(two, 4)
    second.compute(LAYERS)
    two.run()
    assert pieces(two) == []
    first.compute(1)
    two.run()
    assert pieces(two) == [(0, 1, (20, 21))]
    first.compute(LAYERS)
    two.run()
    assert pieces(two)[1:] == [(1, 3, (20, 21)), (0, LAYERS, (22, 23))]
    assert_in_place(two)


@pytest.mark.parametrize("missing", range(LAYERS))
def test_a_load_has_landed_only_when_all_layers_have(missing: int) -> None:
    two = two_of()
    two.prefill.agent.held = True
    step = legs.Step(two, 4)
    for layer in range(LAYERS):
        step.compute(layer + 1)
        two.run()
    late = two.prefill.agent.writes[missing]
    for write in two.prefill.agent.writes:
        if write is not late:
            two.prefill.agent._finish(write)
    two.run()
    assert not two.decode.received
    two.prefill.agent.held = False
    two.run()
    assert_in_place(two)


def test_a_preemption_between_layers_is_survived() -> None:
    two = two_of()
    step = legs.Step(two, 2)
    step.compute(2)
    two.run()
    two.prefill.mover.feed([Preempt(legs.KEY)])
    two.run()
    # The blocks belong to somebody else while the device goes on with the old step.
    step.compute(LAYERS)
    two.run()
    assert pieces(two) == [(0, 2, (20, 21))]
    again = legs.Step(two, 4, (5, 6, 7, 8), source_epoch=1)
    for layers in range(1, LAYERS + 1):
        again.compute(layers)
        two.run()
    assert [w.sources for w in two.prefill.agent.writes] == [
        (10, 11),
        (7, 8),
        (7, 8),
        (5, 6, 7, 8),
        (5, 6, 7, 8),
    ]
    assert_in_place(two)


def test_layers_computed_before_the_registration_leave_with_the_step() -> None:
    two = Two(LARGE)
    two.prefill.agent.memory = [[0] * LARGE.blocks for _ in range(LAYERS)]
    legs.open_source(two)
    legs.open_target(two)
    step = legs.Step(two, 4)
    step.compute(2)
    two.run()
    assert two.decode.admitted == {"d1": 1}
    legs.allocate(two)
    two.run()
    assert pieces(two) == []
    step.compute(3)
    two.run()
    assert pieces(two) == [(0, 3, legs.TARGETS)]
    step.compute(LAYERS)
    two.run()
    assert_in_place(two)


def test_small_pieces_wait_for_the_end_of_the_step() -> None:
    two = two_of(SMALL)
    step = legs.Step(two, 4)
    step.compute(3)
    two.run()
    assert pieces(two) == []
    step.compute(LAYERS)
    two.run()
    assert pieces(two) == [(0, LAYERS, legs.TARGETS)]
    assert_in_place(two)


def test_a_prompt_that_does_not_leave_by_layer_leaves_by_step() -> None:
    two = two_of()
    step = legs.Step(two, 4, by_layer=False)
    step.compute(3)
    two.run()
    assert pieces(two) == []
    step.compute(LAYERS)
    two.run()
    assert pieces(two) == [(0, LAYERS, legs.TARGETS)]
    assert_in_place(two)


def test_a_prompt_may_end_before_the_device_has_computed_it() -> None:
    two = two_of()
    step = legs.Step(two, 4)
    legs.finish(two)
    two.pass_time(1)
    assert not two.prefill.sent
    step.compute(LAYERS)
    two.run()
    assert two.prefill.sent == {"p1": 1}
    assert_in_place(two)
    legs.assert_over(two)


def test_layers_of_a_ticket_that_is_gone_leave_nothing() -> None:
    two = two_of()
    step = legs.Step(two, 4)
    step.compute(1)
    two.run()
    two.decode.mover.feed([legs.ABORT])
    two.run()
    step.compute(LAYERS)
    legs.finish(two)
    two.run()
    assert pieces(two) == [(0, 1, legs.TARGETS)]
    assert two.decode.received == {"d1": 1}
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_a_wrong_layer_fails_the_load() -> None:
    two = two_of()
    two.network.delayed = (Written,)
    step = legs.Step(two, 4)
    for layers in range(1, LAYERS + 1):
        step.compute(layers)
        two.run()
    two.decode.agent.memory[2][legs.TARGETS[1]] += 1
    two.network.delayed = ()
    legs.finish(two)
    two.run()
    assert two.decode.failed == {"d1": "checksums differ"}
    legs.assert_over(two)
