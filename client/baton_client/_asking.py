"""Calls that have one answer, and whom they are asked of."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from google.protobuf.message import Message as ProtoMessage

from baton_client.errors import (
    BatonError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from baton_client.retries import Attempts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unary(Generic[T]):
    """A call with one answer: its method, its request, and how the reply is read.

    `everywhere` is whether one router may know what another does not.
    """

    method: Literal["Embed", "CountTokens", "ListModels", "GetStory"]
    request: ProtoMessage
    read: Callable[[Any], T]
    everywhere: bool = False


_OF_ALL = (InvalidRequestError, UnauthenticatedError, PermissionDeniedError)
"""What would be wrong with every router."""


def _weight(error: BatonError) -> tuple[bool, float]:
    """Of several that could not be asked, the one that says when to ask again counts."""
    return error.retryable, error.retry_after_s or 0.0


class Asking:
    """Asks each of `ends` in turn, and those that could not be asked again as `attempts` allow.

    An end is the target of a router, None = any of them.
    """

    def __init__(self, attempts: Attempts, ends: tuple[str | None, ...]) -> None:
        self._attempts = attempts
        self._left = deque(ends)
        self._again: list[str | None] = []
        self._trouble: BatonError | None = None

    @property
    def end(self) -> str | None:
        """Whom to ask now."""
        return self._left[0]

    def left_s(self) -> float | None:
        """How long that one may take: a silent router leaves time for those after it."""
        left_s = self._attempts.left_s()
        return None if left_s is None else left_s / len(self._left)

    def failed(self, error: BatonError) -> float:
        """Take its error: seconds to wait before the next one is asked.

        Raises the error that stays. What a router that could not be asked may know outranks that
        the others do not know it.
        """
        end = self._left.popleft()
        if isinstance(error, _OF_ALL):
            raise error
        if isinstance(error, DeadlineExceededError) and self._left:
            # Its share of the time is over, not the call's.
            error.retryable = True
        if not isinstance(error, NotFoundError):
            self._again.append(end)
            self._trouble = max(self._trouble or error, error, key=_weight)
        if self._left:
            return 0.0
        if self._trouble is None:
            raise error
        wait_s = self._attempts.pause_s(self._trouble)
        self._left, self._again, self._trouble = deque(self._again), [], None
        return wait_s

    def succeeded(self) -> None:
        """Note that one has answered."""
        self._attempts.succeeded()
