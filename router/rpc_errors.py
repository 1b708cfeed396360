"""A typed error as a gRPC status with google.rpc details, which any client can read."""

from __future__ import annotations

from typing import TypeAlias

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from baton.errors import BatonError

DOMAIN = "baton"
DETAILS_KEY = "grpc-status-details-bin"
_MESSAGE_BYTES_MAX = 1024
"""An error travels in trailers, which clients bound to some KiB, with non-ASCII letters spelled
out threefold."""

Trailers: TypeAlias = tuple[tuple[str, bytes], ...]


def code_of(error: BatonError) -> grpc.StatusCode:
    """The status code of its reason."""
    code: grpc.StatusCode = grpc.StatusCode[error.rule.grpc_status]
    return code


def words_of(error: BatonError) -> str:
    """Its message, as long as a trailer may be."""
    return _cut(error.message)


def trailers_of(error: BatonError) -> Trailers:
    """The details: ErrorInfo with reason and param, and RetryInfo where a time is known."""
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN)
    if error.param is not None:
        info.metadata["param"] = _cut(error.param)
    details = [_packed(info)]
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(1e9 * error.retry_after_s))
        details.append(_packed(retry))
    code = code_of(error).value[0]
    status = status_pb2.Status(code=code, message=words_of(error), details=details)
    return ((DETAILS_KEY, status.SerializeToString()),)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _cut(text: str) -> str:
    # An error may quote what a client sent, and that need not be text.
    return text.encode("utf-8", "replace")[:_MESSAGE_BYTES_MAX].decode("utf-8", "ignore")
