"""Which failed calls are made again, when, and when no more."""

import random
import threading
import time
from dataclasses import dataclass, field

from baton_client.errors import BatonError, NotFoundError

FALL_BACK_S = 0.05
"""Meanwhile the router lets go of the request, whose name may be asked for again."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client makes failed calls again.

    Only calls of which nothing has reached the caller yet, only errors that say that the same
    request may succeed later, and only within the call's deadline. A direct stream that breaks is
    made again through a router whatever has arrived: it goes on behind that. One whose worker is
    not reached at all falls back to a router even with `retries=None`. The wait before attempt n is
    drawn between 0 and `backoff_s * 2 ** (n - 2)`, at most `max_backoff_s` (seconds), and comes on
    top of what the server asks for; a server that asks for more than `max_retry_after_s` gets no
    second attempt. `attempts` counts the first one too.

    The budget keeps a sick cluster from being drowned: each failure takes one of `budget` tokens,
    each success brings back `budget_per_success`, and while half or less is left nothing is made
    again. A direct stream that breaks takes none: that happens to a request once at most, and to
    all that one worker has at the same time.

        client = Client("router:8001", retries=Retries(attempts=2))
        client = Client("router:8001", retries=None)  # never
    """

    attempts: int = 4
    backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    max_retry_after_s: float = 30.0
    budget: float = 20.0
    budget_per_success: float = 0.2

    def wait_s(self, failures: int, asked_s: float, chance: float) -> float:
        """Seconds before the next attempt; `chance` is drawn from [0, 1)."""
        backoff = min(self.max_backoff_s, self.backoff_s * 2.0 ** min(failures - 1, 32))
        return asked_s + chance * backoff


@dataclass(slots=True)
class Budget:
    """The retry tokens that all calls of one client share."""

    retries: Retries
    tokens: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.tokens = self.retries.budget

    def failed(self) -> bool:
        """Take a token; tells whether there is enough left to try again."""
        with self._lock:
            self.tokens = max(0.0, self.tokens - 1)
            return self.tokens > self.retries.budget / 2

    def succeeded(self) -> None:
        """Give some of a token back."""
        with self._lock:
            self.tokens = min(self.retries.budget, self.tokens + self.retries.budget_per_success)


class Attempts:
    """The attempts at one call. `timeout_s` spans all of them; None = no deadline.

    `elsewhere` is how many more routers may know what one of them does not.
    """

    def __init__(self, budget: Budget, timeout_s: float | None, elsewhere: int = 0) -> None:
        self._budget = budget
        self._elsewhere = elsewhere
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.failures = 0

    def left_s(self) -> float | None:
        """Seconds until the deadline, at least 0."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause_s(self, error: BatonError, *, again: bool = True, counts: bool = True) -> float:
        """Seconds to wait before the next attempt; raises the error where there is none.

        `again` is whether the call may be made again at all, `counts` whether that takes a token.
        """
        if isinstance(error, NotFoundError) and self._elsewhere > 0:
            self._elsewhere -= 1
            return 0.0
        self.failures += 1
        if not (error.retryable and again):
            raise error
        retries, asked_s = self._budget.retries, error.retry_after_s or 0.0
        wait_s = retries.wait_s(self.failures, asked_s, random.random())
        left_s = self.left_s()
        # A refused retry still takes its token.
        affordable = (not counts or self._budget.failed()) and asked_s <= retries.max_retry_after_s
        in_time = left_s is None or wait_s < left_s
        if self.failures >= retries.attempts or not affordable or not in_time:
            raise error
        return wait_s

    def fall_back_s(self) -> float:
        """Seconds to wait before asking a router for what no worker was reached for."""
        self.failures += 1
        return FALL_BACK_S

    def succeeded(self) -> None:
        """Note that the call went well."""
        self._budget.succeeded()
