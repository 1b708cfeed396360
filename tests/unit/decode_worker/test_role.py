"""Decode legs claim a ticket, solo legs have none; both deliver tokens."""

from __future__ import annotations

import pytest

from baton.errors import BatonError, Reason
from baton.messages import Ticket
from decode_worker import DecodeRole, SoloRole
from engine.ports import LegEnd
from engine.role import Intake
from tests.fakes.engine import GARBAGE, FakeEngine, FakeOutput
from tests.fakes.handoff import FakeHandoff

DECODE, SOLO = DecodeRole(FakeHandoff()), SoloRole()
CLAIM = Ticket("t", 1, 30.0, b"there")


def test_both_deliver_tokens() -> None:
    assert DECODE.delivers_tokens
    assert SOLO.delivers_tokens


def test_a_decode_leg_says_where_its_kv_is() -> None:
    request = DECODE.request(FakeEngine(), Intake("a.0.d", (b"x",), 3, CLAIM))
    assert (request.request_id, request.kind) == ("a.0.d", "decode")
    assert request.kv_params == {"claim": b"there"}


@pytest.mark.parametrize("ticket", [None, CLAIM])
def test_a_solo_leg_computes_its_own_kv(ticket: Ticket | None) -> None:
    request = SOLO.request(FakeEngine(), Intake("a.0.s", (b"x",), 3, ticket))
    assert request.kv_params is None


@pytest.mark.parametrize(
    ("payload", "ticket", "reason"),
    [
        (b"x", None, Reason.INVALID_REQUEST),
        (GARBAGE, CLAIM, Reason.INVALID_REQUEST),
        (b"x", Ticket("t", 1, 30.0), Reason.TRANSFER_FAILED),
    ],
)
def test_what_cannot_be_taken_has_its_reason(
    payload: bytes, ticket: Ticket | None, reason: Reason
) -> None:
    with pytest.raises(BatonError) as caught:
        DECODE.request(FakeEngine(), Intake("a.0.d", (payload,), 3, ticket))
    assert caught.value.reason is reason


@pytest.mark.parametrize("role", [DECODE, SOLO])
def test_neither_hands_anything_over(role: SoloRole) -> None:
    with pytest.raises(BatonError) as caught:
        role.handed(FakeEngine(), FakeOutput("a"))
    assert caught.value.reason is Reason.INTERNAL


@pytest.mark.parametrize(
    ("role", "end", "had_output", "reason"),
    [
        (DECODE, LegEnd.FAILED, False, Reason.TRANSFER_FAILED),
        (DECODE, LegEnd.FAILED, True, Reason.ENGINE_FAILED),
        (DECODE, LegEnd.ABORTED, False, Reason.ENGINE_FAILED),
        (SOLO, LegEnd.FAILED, False, Reason.ENGINE_FAILED),
        (SOLO, LegEnd.ABORTED, True, Reason.ENGINE_FAILED),
    ],
)
def test_a_bad_end_before_the_first_token_is_the_transfers(
    role: SoloRole, end: LegEnd, had_output: bool, reason: Reason
) -> None:
    assert Reason(role.failure(end, had_output)[0]) is reason
