"""The client retries what the project's table of errors calls retryable, and nothing else."""

from __future__ import annotations

import grpc
import pytest
from baton_client import BatonError, InvalidRequestError, ServerError, _status
from baton_client.errors import from_rpc

from baton.errors import RULES, Reason


class Failed(grpc.RpcError):
    """A call that ended with a reason, as the router sends it."""

    def __init__(self, reason: Reason) -> None:
        self.status = grpc.StatusCode[RULES[reason].grpc_status]
        self.data = _status.encode(self.status.value[0], "text", _status.Details(reason.value))

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return "text"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ((_status.KEY, self.data),)


def read(reason: Reason) -> BatonError:
    return from_rpc(Failed(reason))


@pytest.mark.parametrize("reason", RULES)
def test_retryable_means_the_same_on_both_sides(reason: Reason) -> None:
    error = read(reason)
    assert error.reason == reason.value
    assert error.retryable == RULES[reason].retryable


@pytest.mark.parametrize("reason", RULES)
def test_every_reason_has_a_class(reason: Reason) -> None:
    assert type(read(reason)) is not BatonError
    servers_fault = RULES[reason].http_status == 500
    assert isinstance(read(reason), ServerError) == servers_fault
    if RULES[reason].http_status in (400, 413) and reason is not Reason.UNSUPPORTED:
        assert isinstance(read(reason), InvalidRequestError)
