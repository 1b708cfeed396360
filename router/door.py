"""Who is let in, and which workers serve whom: the limits of the router and the policy's answer.

Refuses with a typed error before a request is taken; what is refused leaves nothing behind but a
count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.messages import Role
from baton.settings import Settings
from router.caller import Caller
from router.gate import Gate
from router.ledger import Ledger
from router.plain_planner import error_of
from router.planners import rules_of
from router.planning import Planner, Word
from router.policy import least_loaded
from router.policy.tenants import DoorPass
from router.ports import EngineRequest
from router.registry import Registry


class Door:
    """The entrance to one router. Reads registry and ledger, changes neither."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        registry: Registry,
        ledger: Ledger,
        planner: Planner,
        gate: Gate,
    ) -> None:
        self._settings = settings.router
        self._clock = clock
        self._rules = rules_of(settings)
        self._planner = planner
        self._gate = gate
        self._registry = registry
        self._ledger = ledger
        self.closed = False
        self.refused: Counter[str] = Counter()
        """Requests not let in, by reason."""

    def close(self) -> None:
        """Lets nobody in from now on."""
        self.closed = True

    def check_ready(self) -> None:
        """Raises BatonError while no request at all could be served. Counts nothing."""
        self._check_open()
        # Every request asks, and most often the first worker has room; why none has is seldom told.
        if self._registry.has_room(Role.DECODE, self._rules.max_queued_decode_requests):
            return
        refusal = least_loaded.refusal(self._registry.policy_view(self._rules))
        if refusal is not None:
            raise error_of(refusal)

    def admit(self, sequences: int, caller: Caller, now: float) -> None:
        """Raises BatonError if that many more requests cannot be let in now."""
        try:
            self._check_room(sequences)
            self.check_ready()
            self._gate.check_limits(caller, sequences, now)
        except BatonError as error:
            self._count(error, sequences, now)
            raise

    @contextmanager
    def knock(self, caller: Caller) -> Iterator[DoorPass]:
        """A pass for a request that is not read yet. Raises BatonError if it need not be read."""
        now = self._clock.now()
        self.admit(1, caller, now)
        try:
            door_pass = self._gate.knock(caller, self._planner.ahead(now), now)
        except BatonError as error:
            self._count(error, 1, now)
            raise
        try:
            yield door_pass
        finally:
            self._gate.give_back(door_pass)

    def plan(self, request: EngineRequest, now: float) -> Sequence[Word]:
        """What becomes of the request. Raises BatonError if it is not let in."""
        try:
            self._check(request)
            self._gate.enter(request, now)
            return self._placed(request, now)
        except BatonError as error:
            self._count(error, request, now)
            raise

    def _placed(self, request: EngineRequest, now: float) -> Sequence[Word]:
        try:
            words = self._planner.plan(request, now)
        except BatonError:
            self._gate.left(request.request_id, now)
            raise
        self._gate.admitted(request, now)
        return words

    def limit_s(self, request: EngineRequest) -> float:
        """Seconds that a request may stay."""
        most_s = self._settings.request_timeout_s
        return most_s if request.deadline_s is None else min(request.deadline_s, most_s)

    def _check(self, request: EngineRequest) -> None:
        self._check_open()
        if request.request_id in self._ledger:
            raise BatonError(Reason.DUPLICATE_ID, f"Request {request.request_id} runs already.")
        self._check_room(1)

    def _check_open(self) -> None:
        if self.closed:
            raise self._refusal(Reason.DRAINING, "The router takes no new requests.")

    def _check_room(self, sequences: int) -> None:
        self._check_open()
        if len(self._ledger) + sequences > self._settings.max_inflight_requests:
            raise self._refusal(Reason.QUEUE_FULL, "The router is full.")

    def _refusal(self, reason: Reason, message: str) -> BatonError:
        return BatonError(reason, message, retry_after_s=self._settings.retry_after_s)

    def _count(self, error: BatonError, refused: EngineRequest | int, now: float) -> None:
        # Whom a router turns away because it leaves comes to another one.
        self._gate.refused(error.reason, 0 if self.closed else refused, now)
        self.refused[error.reason.value] += 1
