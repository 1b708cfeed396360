"""What is tried again, how long after, and when no more."""

from __future__ import annotations

import pytest
from baton_client import (
    BatonError,
    Client,
    DeadlineExceededError,
    DuplicateRequestError,
    InvalidRequestError,
    OverloadedError,
    Retries,
    UnavailableError,
)
from baton_client.retries import FALL_BACK_S, Attempts, Budget
from baton_client.testing import FakeBaton

FAST = Retries(backoff_s=0.001)


def full(retry_after_s: float | None = None) -> OverloadedError:
    return OverloadedError("full", reason="queue_full", retry_after_s=retry_after_s)


def test_waits_grow_and_are_bounded() -> None:
    retries = Retries(backoff_s=1.0, max_backoff_s=5.0)
    assert [retries.wait_s(n, 0.0, 1.0) for n in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]


def test_jitter_is_full_and_comes_on_top_of_what_is_asked_for() -> None:
    retries = Retries(backoff_s=1.0)
    assert retries.wait_s(1, 0.0, 0.0) == 0.0
    assert [retries.wait_s(1, 3.0, chance) for chance in (0.0, 0.5)] == [3.0, 3.5]


def test_attempts_are_counted() -> None:
    attempts = Attempts(Budget(Retries(attempts=3)), None)
    for _ in range(2):
        attempts.pause_s(full())
    with pytest.raises(OverloadedError):
        attempts.pause_s(full())


def test_a_wait_beyond_the_deadline_is_not_waited() -> None:
    with pytest.raises(OverloadedError):
        Attempts(Budget(Retries()), timeout_s=1.0).pause_s(full(retry_after_s=2.0))


def test_a_server_that_asks_for_too_much_gets_no_second_attempt() -> None:
    with pytest.raises(OverloadedError):
        Attempts(Budget(Retries(max_retry_after_s=5)), None).pause_s(full(retry_after_s=6.0))


def test_the_budget_runs_dry_and_fills_again() -> None:
    budget = Budget(Retries(budget=4, budget_per_success=0.5))
    assert [budget.failed() for _ in range(3)] == [True, False, False]
    budget.succeeded()
    assert budget.tokens == 1.5
    for _ in range(99):
        budget.succeeded()
    assert budget.tokens == 4


def test_a_sick_cluster_is_not_drowned(fake: FakeBaton) -> None:
    for _ in range(200):
        fake.fail(UnavailableError("sick", reason="no_worker"))
    retries = Retries(backoff_s=0.0, budget=10)
    with Client(fake.address, retries=retries) as client:
        for _ in range(50):
            with pytest.raises(UnavailableError):
                client.generate("p")
    assert fake.calls["Generate"] == 50 + 3


def test_a_refused_request_is_asked_again_after_the_pause(fake: FakeBaton, client: Client) -> None:
    fake.fail(full(retry_after_s=0.1))
    fake.fail(UnavailableError("gone", reason="worker_lost"))
    answer = client.generate("a b")
    assert (answer.text, answer.attempts) == ("a b", 3)
    assert answer.total_s >= 0.1
    assert answer.request_id == fake.requests[2].request_id
    assert len({request.request_id for request in fake.requests}) == 3


def test_unary_calls_are_asked_again_too(fake: FakeBaton, client: Client) -> None:
    fake.fail(full(), method="ListModels")
    assert client.models()[0].can_generate
    assert fake.calls["ListModels"] == 2


def test_what_cannot_help_is_not_tried(fake: FakeBaton, client: Client) -> None:
    fake.fail(InvalidRequestError("wrong"))
    with pytest.raises(InvalidRequestError):
        client.generate("p")
    assert fake.calls["Generate"] == 1


def test_nothing_is_tried_again_once_a_piece_has_arrived(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", error=UnavailableError("lost", reason="worker_lost"))
    with client.stream("p") as stream:
        assert next(stream).text == "a"
        with pytest.raises(UnavailableError):
            next(stream)
        assert stream.so_far.text == "a"
        with pytest.raises(UnavailableError):
            stream.result()
    assert fake.calls["Generate"] == 1


def test_retries_can_be_switched_off(fake: FakeBaton) -> None:
    fake.fail(full(retry_after_s=0.001))
    with Client(fake.address, retries=None) as client, pytest.raises(OverloadedError):
        client.generate("p")
    assert fake.calls["Generate"] == 1


def test_ones_own_name_in_the_way_is_waited_for(fake: FakeBaton, client: Client) -> None:
    fake.fail(UnavailableError("gone"))
    fake.fail(DuplicateRequestError("runs"))
    assert client.generate("p", request_id="mine").request_id == "mine"
    fake.fail(DuplicateRequestError("runs"))
    with pytest.raises(DuplicateRequestError):
        client.generate("p", request_id="mine")


def test_all_attempts_share_one_deadline(fake: FakeBaton, client: Client) -> None:
    fake.fail(full(retry_after_s=0.05))
    fake.answer("late", delay_s=30)
    with pytest.raises(DeadlineExceededError):
        client.generate("p", timeout_s=0.3)
    assert fake.calls["Generate"] == 2


def test_a_router_that_is_not_there_is_unavailable(fake: FakeBaton) -> None:
    fake.stop()
    with Client(fake.address, retries=FAST) as client, pytest.raises(BatonError) as raised:
        client.generate("p")
    assert isinstance(raised.value, UnavailableError)


def test_ones_own_name_in_the_way_after_a_detour_is_waited_out_a_few_times() -> None:
    attempts = Attempts(Budget(Retries(attempts=1)), None)
    assert attempts.fall_back_s() == FALL_BACK_S
    waits = [attempts.pause_s(DuplicateRequestError("runs")) for _ in range(5)]
    assert waits == [FALL_BACK_S * factor for factor in (1, 2, 4, 8, 16)]
    with pytest.raises(DuplicateRequestError):
        attempts.pause_s(DuplicateRequestError("runs"))
    assert attempts.failures == 7


def test_a_name_in_the_way_is_not_waited_out_beyond_the_deadline() -> None:
    attempts = Attempts(Budget(Retries()), timeout_s=FALL_BACK_S / 2)
    attempts.fall_back_s()
    with pytest.raises(DuplicateRequestError):
        attempts.pause_s(DuplicateRequestError("runs"))
