"""Everything that a call can fail with. All are `BatonError`; catch the ones you can act on.

try:
    answer = client.generate("Hello")
except PromptTooLongError:
    ...                      # shorten it
except OverloadedError as error:
    ...                      # retried already; the cluster asks for error.retry_after_s more
except BatonError as error:
    print(error.reason, error.message, error.request_id)
"""

from collections.abc import Iterable
from typing import ClassVar, cast

import grpc
from grpc import StatusCode

from baton_client import _status


class BatonError(Exception):
    """A request that was refused or failed.

    `reason` is a short fixed word such as "queue_full" (the gRPC status in lower case where the
    server named none), `message` a sentence for people. `param` is the field at fault, None where
    there is none. `retry_after_s` (seconds) is how long the server asks to wait, None = no advice.
    `request_id` is what `Client.story` takes, None where the request had no id. `retryable` tells
    whether the same request, unchanged, may succeed later.
    """

    status: StatusCode = StatusCode.UNKNOWN
    transient: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.status.name.lower()
        self.param = param
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.retryable = self.transient or retry_after_s is not None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InvalidRequestError(BatonError, ValueError):
    """The request is wrong as it stands; `param` names the field."""

    status = StatusCode.INVALID_ARGUMENT


class PromptTooLongError(InvalidRequestError):
    """Prompt and wanted answer do not fit into the model's context."""


class UnauthenticatedError(BatonError):
    """The API key is missing, wrong or revoked."""

    status = StatusCode.UNAUTHENTICATED


class PermissionDeniedError(BatonError):
    """The API key does not allow this."""

    status = StatusCode.PERMISSION_DENIED


class NotFoundError(BatonError):
    """No such model, or no such request any more."""

    status = StatusCode.NOT_FOUND


class DuplicateRequestError(BatonError):
    """A request with this `request_id` runs already."""

    status = StatusCode.ALREADY_EXISTS


class UnsupportedError(BatonError):
    """The served model or this server cannot do it."""

    status = StatusCode.UNIMPLEMENTED


class OverloadedError(BatonError):
    """Refused before anything ran: the cluster is full, or the tenant's limit is reached."""

    status = StatusCode.RESOURCE_EXHAUSTED
    transient = True


class UnavailableError(BatonError):
    """No router or no worker could be reached, or one was lost on the way."""

    status = StatusCode.UNAVAILABLE
    transient = True


class DeadlineExceededError(BatonError, TimeoutError):
    """The answer was not complete in time (`timeout_s`)."""

    status = StatusCode.DEADLINE_EXCEEDED


class RequestCancelledError(BatonError):
    """The request was cancelled, by `Stream.cancel` or by the server."""

    status = StatusCode.CANCELLED


class ServerError(BatonError):
    """The server failed; asking again is not known to help."""

    status = StatusCode.INTERNAL


_BY_STATUS: dict[StatusCode, type[BatonError]] = {
    kind.status: kind for kind in BatonError.__subclasses__()
} | {StatusCode.FAILED_PRECONDITION: UnavailableError, StatusCode.OUT_OF_RANGE: InvalidRequestError}
# Reasons that say more than their status does.
_BY_REASON: dict[str, type[BatonError]] = {
    "prompt_too_long": PromptTooLongError,
    "body_too_large": InvalidRequestError,
}


def from_rpc(error: grpc.RpcError, request_id: str | None = None) -> BatonError:
    """The typed error of a failed gRPC call."""
    details = _details(error)
    by_status = _BY_STATUS.get(error.code(), ServerError)
    made = _BY_REASON.get(details.reason, by_status)(
        error.details() or error.code().name,
        reason=details.reason or error.code().name.lower(),
        param=details.metadata.get("param"),
        retry_after_s=details.retry_after_s,
        request_id=request_id,
    )
    made.status = error.code()
    # gRPC itself says RESOURCE_EXHAUSTED of messages that are too large: they stay so.
    if not details.reason and made.status is StatusCode.RESOURCE_EXHAUSTED:
        made.retryable = made.retry_after_s is not None
    return made


def _details(error: grpc.RpcError) -> _status.Details:
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    found = [value for key, value in metadata if key == _status.KEY]
    return _status.decode(found[0]) if found and isinstance(found[0], bytes) else _status.Details()
