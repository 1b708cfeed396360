"""Which failed calls are made again, when, and when no more."""

import random
import threading
import time
from dataclasses import dataclass, field

from baton_client.errors import BatonError, DuplicateRequestError

FALL_BACK_S = 0.05
"""Meanwhile the router lets go of the request, whose name may be asked for again."""
IN_THE_WAY_MAX = 5
"""How often more a request is asked for that its own former self is in the way of."""


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
    """The attempts at one call. `timeout_s` spans all of them; None = no deadline."""

    def __init__(self, budget: Budget, timeout_s: float | None) -> None:
        self._budget = budget
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._patience = 0
        self.failures = 0

    def left_s(self) -> float | None:
        """Seconds until the deadline, at least 0. The first time it is asked the time begins."""
        if self._timeout_s is None:
            return None
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._timeout_s
        return max(0.0, self._deadline - now)

    def pause_s(self, error: BatonError, *, again: bool = True, counts: bool = True) -> float:
        """Seconds to wait before the next attempt; raises the error where there is none.

        `again` is whether the call may be made again at all, `counts` whether that takes a token.
        """
        self.failures += 1
        if isinstance(error, DuplicateRequestError) and self._patience > 0:
            return self._waited_out_s(error)
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
        self._patience = IN_THE_WAY_MAX
        return FALL_BACK_S

    def _waited_out_s(self, error: DuplicateRequestError) -> float:
        """Twice as long each time: a busy router takes longer to let go."""
        wait_s = FALL_BACK_S * 2.0 ** (IN_THE_WAY_MAX - self._patience)
        self._patience -= 1
        if (left_s := self.left_s()) is not None and wait_s >= left_s:
            raise error
        return wait_s

    def succeeded(self) -> None:
        """Note that the call went well."""
        self._budget.succeeded()
