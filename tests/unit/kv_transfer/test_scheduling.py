"""Which blocks belong to which ticket, step by step, and whose references are held how long."""

from __future__ import annotations

import pytest

from kv_transfer.orders import (
    Abort,
    Allocate,
    Begin,
    Cover,
    Decline,
    Finish,
    OpenSource,
    OpenTarget,
    Orders,
    Preempt,
)
from kv_transfer.scheduling import DECODE, PREFILL
from tests.unit.kv_transfer.engine import PEER, Engine, Request, key_of, leg

P, D = key_of("p"), key_of("d")
IDLE = Orders(idle=True)


def prefill(tokens: int = 10) -> tuple[Engine, Request]:
    """An engine in which a prefill leg has arrived and been opened."""
    engine = Engine()
    request = engine.arrive("p", PREFILL, tokens)
    assert engine.idle().at_once == [OpenSource(P, "p", PEER)]
    return engine, request


def decode(tokens: int = 10) -> tuple[Engine, Request]:
    """The same with a decode leg."""
    engine = Engine()
    request = engine.arrive("d", DECODE, tokens)
    assert engine.idle().at_once == [OpenTarget(D, "d", PEER)]
    return engine, request


# --- prefill --------------------------------------------------------------------------------------


def test_chunks_are_covered_up_to_the_last_whole_block() -> None:
    engine, _ = prefill(tokens=14)
    assert engine.start("p", [5, 6], 6) == Orders([Begin(P)], [Cover(P, 0, (5,), 1)])
    assert engine.pool.held == {5: 1}
    assert engine.go_on("p", [7], 6, 6) == Orders([], [Cover(P, 0, (5, 6, 7), 3)])
    assert engine.pool.held == {5: 1, 6: 1, 7: 1}
    assert engine.go_on("p", [8], 12, 2).computed == [Cover(P, 0, (5, 6, 7, 8), 4)]
    assert engine.pool.held == {5: 1, 6: 1, 7: 1, 8: 1}


def test_a_prompt_begins_with_its_first_step_however_small() -> None:
    engine, _ = prefill(tokens=8)
    assert engine.idle() == IDLE
    assert engine.start("p", [5], 1) == Orders([Begin(P)], [Cover(P, 0, (), 0)])
    assert engine.go_on("p", None, 1, 3) == Orders([], [Cover(P, 0, (5,), 1)])
    assert engine.resume("p", [9, 10], 0, 8).at_once == [Preempt(P)]


@pytest.mark.parametrize("default", ["layer", "step"])
@pytest.mark.parametrize("asked", [None, "layer", "step"])
def test_layers_leave_one_by_one_where_the_engine_or_the_request_says_so(
    default: str, asked: str | None
) -> None:
    engine = Engine(stream=default)
    request = leg("p", PREFILL, 8)
    if asked is not None:
        request.kv_transfer_params["stream"] = asked
    engine.side.arrived(request)
    (first,) = engine.start("p", [5, 6], 4).computed
    (second,) = engine.go_on("p", None, 4, 4).computed
    assert first.by_layer is second.by_layer is ((asked or default) == "layer")


@pytest.mark.parametrize(("tokens", "covered"), [(4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_partial_block_counts_at_the_end_of_the_prompt(tokens: int, covered: int) -> None:
    engine, _ = prefill(tokens)
    (cover,) = engine.start("p", range(5, 9), tokens).computed
    assert (cover.computed, cover.blocks) == (covered, tuple(range(5, 5 + covered)))


def test_cached_blocks_are_covered_with_the_first_chunk() -> None:
    engine, _ = prefill(tokens=16)
    assert engine.start("p", [5, 6, 7], 4, hit=8).computed == [Cover(P, 0, (5, 6, 7), 3)]


def test_a_step_that_needs_no_new_block_is_covered() -> None:
    engine, _ = prefill(tokens=8)
    assert engine.start("p", [5, 6], 6).computed == [Cover(P, 0, (5,), 1)]
    assert engine.go_on("p", None, 6, 2).computed == [Cover(P, 0, (5, 6), 2)]


def test_a_resumed_prompt_is_another_source_epoch() -> None:
    engine, request = prefill()
    engine.start("p", [5, 6], 8)
    orders = engine.resume("p", [9, 10], 0, 8)
    assert orders == Orders([Preempt(P)], [Cover(P, 1, (9, 10), 2)])
    assert engine.pool.held == {5: 1, 6: 1, 9: 1, 10: 1}
    assert engine.go_on("p", [11], 8, 2).computed == [Cover(P, 1, (9, 10, 11), 3)]
    assert set(engine.pool.held.values()) == {1}
    assert engine.side.finished(request, well=True)
    engine.side.sent("p")
    assert engine.pool.held == {}


def test_a_prompt_resumed_in_its_old_blocks_holds_them_once() -> None:
    engine, _ = prefill()
    engine.start("p", [5, 6], 8)
    assert engine.resume("p", [5, 9], 4, 4).computed == [Cover(P, 1, (5, 9), 2)]
    assert engine.pool.held == {5: 1, 6: 1, 9: 1}


def test_a_request_that_is_new_twice_was_preempted() -> None:
    engine, _ = prefill()
    engine.start("p", [5, 6], 8)
    assert engine.start("p", [9], 4) == Orders([Preempt(P)], [Cover(P, 1, (9,), 1)])


def test_a_finished_prompt_is_held_until_it_is_sent() -> None:
    engine, request = prefill()
    engine.start("p", [5, 6, 7], 10)
    assert engine.side.finished(request, well=True)
    assert engine.idle().at_once == [Finish(P)]
    assert len(engine.pool.held) == 3
    engine.side.sent("p")
    assert engine.pool.held == {}
    assert engine.side.open_legs == {}
    engine.side.sent("p")


def test_an_aborted_prompt_with_blocks_is_held_too() -> None:
    engine, request = prefill()
    engine.start("p", [5, 6], 8)
    assert engine.side.finished(request, well=False)
    assert engine.idle().at_once == [Abort(P, "the prefill leg was aborted", held=True)]
    engine.side.sent("p")
    assert engine.pool.held == {}


@pytest.mark.parametrize("well", [True, False])
def test_a_prompt_that_ends_before_any_block_is_not_held(well: bool) -> None:
    engine, request = prefill()
    assert not engine.side.finished(request, well=well)
    assert engine.idle().at_once == [Abort(P, "the prefill leg was aborted", held=False)]
    assert engine.side.open_legs == {}


def test_a_prefill_leg_asks_for_nothing() -> None:
    engine, request = prefill()
    assert engine.side.matched_tokens(request, 0) == (0, False)
    engine.side.allocated(request, [1, 2], 0)
    assert engine.idle() == IDLE


def test_without_a_pool_nothing_is_counted() -> None:
    engine, request = prefill()
    engine.side._pool = None
    engine.start("p", [5, 6, 7], 10)
    assert engine.side.finished(request, well=True)
    engine.side.sent("p")


# --- decode ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "own"), [(10, 0), (10, 4), (10, 8), (9, 8), (8, 4)])
def test_decode_asks_for_what_it_does_not_hold(tokens: int, own: int) -> None:
    engine, request = decode(tokens)
    assert engine.side.matched_tokens(request, own) == (None, False)
    assert engine.side.matched_tokens(request, own) == (None, False)
    engine.side.admitted("d")
    assert engine.side.matched_tokens(request, own) == (tokens - own, True)
    assert engine.side.matched_tokens(request, own) == (tokens - own, True)
    assert engine.idle() == IDLE


def test_what_a_leg_arrives_with_is_handed_over_and_nothing_later() -> None:
    engine, request = decode(10)
    request.num_tokens += 3
    engine.side.admitted("d")
    assert engine.side.matched_tokens(request, 4) == (6, True)
    assert engine.side.matched_tokens(request, 12) == (0, False)


def test_decode_that_holds_the_whole_prompt_is_not_kept_waiting() -> None:
    engine, request = decode(8)
    assert engine.side.matched_tokens(request, 8) == (0, False)
    assert engine.side.matched_tokens(request, 4) == (None, False)


def test_each_leg_is_admitted_by_itself() -> None:
    engine, request = decode(8)
    other = engine.arrive("other", DECODE, 8)
    engine.side.admitted("other")
    engine.side.admitted("somebody else")
    assert engine.side.matched_tokens(request, 0) == (None, False)
    assert engine.side.matched_tokens(other, 0) == (8, True)


def test_an_admission_that_comes_after_the_end_changes_nothing() -> None:
    engine, request = decode(8)
    engine.side.finished(request, well=False)
    engine.side.admitted("d")
    assert engine.side.open_legs == {}
    assert engine.side.matched_tokens(request, 0) == (0, False)


def test_an_admission_that_comes_after_the_load_changes_nothing() -> None:
    engine, request = decode(8)
    engine.side.admitted("d")
    engine.side.allocated(request, [1, 2], 8)
    engine.side.admitted("d")
    assert engine.side.matched_tokens(request, 0) == (0, False)
    engine.side.received("d")
    assert engine.side.matched_tokens(request, 0) == (0, False)


def test_own_cached_blocks_are_left_out_of_the_registration() -> None:
    engine, request = decode(10)
    engine.side.allocated(request, [1, 2, 3, 4], 6)
    assert engine.idle().at_once == [Allocate(D, 1, (2, 3), 3)]
    assert engine.side.matched_tokens(request, 4) == (0, False)


def test_decode_that_holds_the_whole_prompt_declines() -> None:
    engine, request = decode(8)
    assert engine.side.matched_tokens(request, 8) == (0, False)
    engine.side.allocated(request, [], 0)
    assert engine.idle().at_once == [Decline(D)]
    assert not engine.side.finished(request, well=True)
    assert engine.idle() == IDLE
    assert engine.side.open_legs == {}


@pytest.mark.parametrize("landed_first", [True, False])
def test_the_second_allocation_does_nothing(landed_first: bool) -> None:
    engine, request = decode(8)
    engine.side.allocated(request, [1, 2], 8)
    engine.idle()
    if landed_first:
        engine.side.received("d")
    engine.side.allocated(request, [1, 2, 3], 0)
    assert engine.idle() == IDLE


def test_a_landed_leg_ends_without_a_word() -> None:
    engine, request = decode(8)
    engine.side.allocated(request, [1, 2], 8)
    engine.idle()
    engine.side.received("d")
    assert engine.side.matched_tokens(request, 0) == (0, False)
    assert not engine.side.finished(request, well=True)
    assert engine.idle() == IDLE
    assert engine.side.open_legs == {}


def test_an_abort_before_registration_is_forgotten_at_once() -> None:
    engine, request = decode()
    assert not engine.side.finished(request, well=False)
    assert engine.idle().at_once == [Abort(D, "the decode leg was aborted")]
    assert engine.side.open_legs == {}


def test_an_abort_after_registration_is_remembered_until_the_blocks_are_back() -> None:
    engine, request = decode(8)
    engine.side.allocated(request, [1, 2], 8)
    engine.idle()
    assert not engine.side.finished(request, well=False)
    assert engine.idle().at_once == [Abort(D, "the decode leg was aborted")]
    assert engine.side.open_legs == {"d": DECODE}
    engine.side.received("d")
    assert engine.side.open_legs == {}
    engine.side.received("d")


# --- the others -----------------------------------------------------------------------------------


def test_a_load_that_fails_on_one_rank_is_given_up_on_all_once() -> None:
    engine = Engine()
    request = engine.arrive("d", DECODE, 8)
    engine.side.allocated(request, [1, 2], 8)
    engine.idle()
    engine.side.failed("d")
    engine.side.failed("d")
    assert engine.idle().at_once == [Abort(key_of("d"), "the load failed on another rank")]
    engine.side.received("d")
    engine.side.finished(request, well=True)
    assert engine.side.open_legs == {}


@pytest.mark.parametrize("end", ["received", "aborted", "unknown"])
def test_a_failure_that_everybody_knows_of_is_told_to_nobody(end: str) -> None:
    engine = Engine()
    request = engine.arrive("d", DECODE, 8)
    engine.side.allocated(request, [1, 2], 8)
    if end == "received":
        engine.side.received("d")
    elif end == "aborted":
        engine.side.finished(request, well=False)
    engine.idle()
    engine.side.failed("somebody" if end == "unknown" else "d")
    assert engine.idle().at_once == []


@pytest.mark.parametrize("params", [None, {}, {"do_remote_decode": True}, {"baton": "else"}])
def test_requests_without_a_ticket_are_left_alone(params: dict | None) -> None:
    engine = Engine()
    request = Request("r", 8, params)
    engine.side.arrived(request)
    assert engine.side.matched_tokens(request, 0) == (0, False)
    engine.side.allocated(request, [1, 2], 0)
    assert engine.start("r", [1, 2], 8) == Orders()
    assert engine.go_on("r", [3], 8, 1) == Orders()
    assert engine.resume("r", [4], 0, 1) == Orders()
    assert not engine.side.finished(request, well=True)
    engine.side.admitted("r")
    engine.side.sent("r")
    engine.side.received("r")
    assert engine.idle() == IDLE
    assert engine.pool.held == {}
