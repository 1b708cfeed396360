"""Second attempts: whether there is one, where it goes, and who waits for a worker to come back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from router.ledger import Life
from router.life import PlaceAgain
from router.metrics import RouterMetrics
from router.planning import Kept, Planner, Refused, Word
from router.ports import EngineRequest
from router.retries import RetryBudget

_log = logging.getLogger(__name__)
_COMES_BACK = frozenset({Reason.STARTING, Reason.WORKER_FULL})


@dataclass(frozen=True, slots=True)
class _Waiting:
    one: Life
    command: PlaceAgain


class Placing:
    """Owned by one router. Bounded by the requests inside it."""

    def __init__(self, planner: Planner, budget: RetryBudget, metrics: RouterMetrics) -> None:
        self._planner = planner
        self._budget = budget
        self._metrics = metrics
        self._waiting: dict[RequestId, _Waiting] = {}

    def came(self) -> None:
        """A new request."""
        self._budget.earn()

    def again(
        self, one: Life, command: PlaceAgain, sent: Iterable[int], now: float
    ) -> Sequence[Word]:
        """Another attempt; `sent` are the tokens that the client has, to go on after."""
        request_id = one.request.request_id
        if command.reason is not Reason.WORKER_FULL and not self._budget.spend():
            self._metrics.retried("over_budget")
            return [Refused(request_id, _error(command))]
        self._metrics.retried(command.reason.value)
        about = {"request_id": request_id, "worker": command.worker_id, "cause": command.message}
        _log.info("request placed again", extra={**about, "reason": command.reason.value})
        one.sent = tuple(sent)
        return self._place(_Waiting(one, command), now)

    def tick(self, now: float) -> Sequence[Word]:
        """Tries those that wait for a worker; the first that still has to wait ends the round."""
        words: list[Word] = []
        for request_id in list(self._waiting):
            waiting = self._waiting.pop(request_id, None)
            if waiting is not None:
                words += self._place(waiting, now, quiet=True)
                if request_id in self._waiting:
                    break
        return words

    def left(self, request_id: RequestId) -> None:
        """The request has ended, however."""
        self._waiting.pop(request_id, None)
        self._planner.left(request_id)

    def _place(self, waiting: _Waiting, now: float, *, quiet: bool = False) -> Sequence[Word]:
        one, command = waiting.one, waiting.command
        request = resumed(one.request, one.sent)
        try:
            return self._planner.again(request, command, now)
        except BatonError as error:
            if error.reason not in _COMES_BACK or not (one.sent or error.reason is Reason.STARTING):
                return [Refused(request.request_id, _error(command))]
        self._waiting[request.request_id] = waiting
        return [] if quiet else [Kept(request.request_id, "waits for a worker to come back")]


def resumed(request: EngineRequest, sent: tuple[int, ...]) -> EngineRequest:
    """What is to be computed so that the answer goes on after these tokens."""
    if not sent:
        return request
    return replace(
        request,
        tokens=[*request.tokens, *sent],
        prompt_tokens=request.prompt_tokens + len(sent),
        max_tokens=max(request.max_tokens - len(sent), 1),
    )


def _error(command: PlaceAgain) -> BatonError:
    return BatonError(command.reason, command.message, retry_after_s=command.retry_after_s)
