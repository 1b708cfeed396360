"""Prefill legs open a ticket and hand over what the engine kept."""

from __future__ import annotations

import pytest

from baton.errors import BatonError, Reason
from baton.messages import Ticket
from engine.ports import LegEnd
from engine.role import Intake
from prefill_worker import PrefillRole
from tests.fakes.engine import GARBAGE, FakeEngine, FakeOutput
from tests.fakes.handoff import FakeHandoff

ROLE = PrefillRole(FakeHandoff())
TICKET = Ticket("t", 1, 30.0)


def test_its_token_is_for_nobody() -> None:
    assert ROLE.delivers_tokens is False


def test_the_request_carries_the_opened_ticket() -> None:
    request = ROLE.request(FakeEngine(), Intake("a.0.p", (b"x", b"y"), 3, TICKET))
    assert (request.request_id, request.payload, request.kind, request.kv_params) == (
        "a.0.p",
        (b"x", b"y"),
        "prefill",
        {"open": "t"},
    )


@pytest.mark.parametrize(("payload", "ticket"), [(b"x", None), (GARBAGE, TICKET)])
def test_what_cannot_be_taken_is_invalid(payload: bytes, ticket: Ticket | None) -> None:
    with pytest.raises(BatonError) as caught:
        ROLE.request(FakeEngine(), Intake("a.0.p", (payload,), 3, ticket))
    assert caught.value.reason is Reason.INVALID_REQUEST


def test_what_the_engine_kept_is_handed_over() -> None:
    output = FakeOutput("a.0.p", end=LegEnd.DONE, kv_params={"b": [1]}, cached_tokens=2)
    handed = ROLE.handed(FakeEngine(), output)
    assert (handed.handed, handed.cached_tokens) == (b'{"b": [1]}', 2)


def test_nothing_kept_is_a_failed_transfer() -> None:
    with pytest.raises(BatonError) as caught:
        ROLE.handed(FakeEngine(), FakeOutput("a.0.p", end=LegEnd.DONE))
    assert caught.value.reason is Reason.TRANSFER_FAILED


@pytest.mark.parametrize("end", [LegEnd.FAILED, LegEnd.ABORTED])
def test_a_bad_end_is_the_engines_failure(end: LegEnd) -> None:
    reason, message = ROLE.failure(end, had_output=False)
    assert Reason(reason) is Reason.ENGINE_FAILED
    assert end.value in message
