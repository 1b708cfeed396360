"""Each failure has its class, and says what the server said."""

from __future__ import annotations

import pickle
import subprocess
import sys

import baton_client
import grpc
import pytest
from baton_client import (
    BatonError,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
    PromptTooLongError,
    ServerError,
    UnavailableError,
    _status,
)
from baton_client.errors import from_rpc
from baton_client.testing import FakeBaton
from grpc import StatusCode

CLASSES = [
    kind
    for kind in map(baton_client.__dict__.get, baton_client.__all__)
    if isinstance(kind, type) and issubclass(kind, BatonError) and kind is not BatonError
]


class Failed(grpc.RpcError):
    """A failed call as gRPC raises it."""

    def __init__(self, code: StatusCode, details: bytes | None = None) -> None:
        self._code, self._details = code, details

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return "text"

    def trailing_metadata(self) -> tuple:
        return () if self._details is None else ((_status.KEY, self._details),)


def failed(code: StatusCode, reason: str, **details: object) -> BatonError:
    data = _status.encode(code.value[0], "text", _status.Details(reason, **details))
    return from_rpc(Failed(code, data), "r")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_arrives_as_it_was_sent(kind: type[BatonError], fake: FakeBaton) -> None:
    reason = "prompt_too_long" if kind is PromptTooLongError else "some_reason"
    fake.fail(kind("in words", reason=reason, param="field"))
    with Client(fake.address, retries=None) as client, pytest.raises(BatonError) as raised:
        client.generate("p")
    error = raised.value
    assert type(error) is kind
    assert (error.reason, error.message, error.param) == (reason, "in words", "field")
    assert error.request_id == fake.requests[0].request_id
    assert error.status is kind.status
    assert error.retry_after_s is None


def test_python_programs_find_the_errors_they_know() -> None:
    assert issubclass(DeadlineExceededError, TimeoutError)
    assert issubclass(InvalidRequestError, ValueError)


def test_details_travel_whole() -> None:
    error = failed(StatusCode.RESOURCE_EXHAUSTED, "queue_full", retry_after_s=1.25)
    assert isinstance(error, OverloadedError)
    assert (error.retry_after_s, error.retryable, str(error)) == (1.25, True, "queue_full: text")


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.999999999, 3600.0])
def test_a_delay_keeps_its_length(seconds: float) -> None:
    data = _status.encode(8, "", _status.Details("r", {}, seconds))
    assert _status.decode(data).retry_after_s == pytest.approx(seconds, abs=2e-9)


def test_a_reason_can_say_more_than_the_status() -> None:
    assert isinstance(failed(StatusCode.INVALID_ARGUMENT, "prompt_too_long"), PromptTooLongError)
    large = failed(StatusCode.RESOURCE_EXHAUSTED, "body_too_large")
    assert isinstance(large, InvalidRequestError)
    assert not large.retryable


def test_what_has_no_details_is_told_by_its_status() -> None:
    error = from_rpc(Failed(StatusCode.UNAVAILABLE))
    assert isinstance(error, UnavailableError)
    assert (error.reason, error.retryable) == ("unavailable", True)
    assert isinstance(from_rpc(Failed(StatusCode.DATA_LOSS)), ServerError)
    # gRPC's own word for a message above the limit, which will be no smaller the next time.
    assert not from_rpc(Failed(StatusCode.RESOURCE_EXHAUSTED)).retryable


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x1a\x05abc"])
def test_broken_details_are_no_second_error(data: bytes) -> None:
    assert type(from_rpc(Failed(StatusCode.INTERNAL, data))) is ServerError


def test_errors_cross_processes() -> None:
    error = failed(StatusCode.UNAVAILABLE, "draining", retry_after_s=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is UnavailableError
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("first", ["baton_client", "google.rpc.status_pb2"])
def test_the_details_are_googles_and_live_beside_googles_own(first: str) -> None:
    pytest.importorskip("google.rpc.error_details_pb2", reason="googleapis-common-protos missing")
    program = f"""
import {first}
from google.rpc import status_pb2, error_details_pb2 as details
from baton_client import _status
info = details.ErrorInfo(reason="r", domain="baton", metadata={{"param": "p"}})
retry = details.RetryInfo()
retry.retry_delay.FromMilliseconds(1250)
theirs = status_pb2.Status(code=8, message="m")
for part in (info, retry):
    theirs.details.add().Pack(part)
ours = _status.Details("r", {{"param": "p"}}, 1.25)
assert _status.decode(theirs.SerializeToString()) == ours
assert status_pb2.Status.FromString(_status.encode(8, "m", ours)) == theirs
"""
    subprocess.run([sys.executable, "-c", program], check=True)
