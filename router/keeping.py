"""Holds what became of each request against what was promised to its tenant, and tells everybody
who counts: metrics, the signals for scaling, the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from baton.errors import Reason
from baton.settings import Settings
from router.attainment import FAULTS, Ending, judge
from router.life import FlowState
from router.metrics import RouterMetrics
from router.ports import EngineRequest
from router.promises import Promises
from router.recent import Recent
from router.signals import Signals
from router.slo_metrics import SloMetrics

_log = logging.getLogger(__name__)
_ID_CHARS_MAX = 64
"""Of a request's id in an exemplar, which may have 128 characters with names and all."""


class Keeping:
    """Of one router. `now` reads its clock."""

    def __init__(
        self,
        settings: Settings,
        metrics: RouterMetrics,
        signals: Signals,
        now: Callable[[], float],
    ) -> None:
        self._promises = promises = Promises(settings)
        self._metrics = metrics
        self._signals = signals
        self._now = now
        self._recent = Recent()
        # Routers are started with the name spelled out.
        model = settings.model.served_name or ""
        labels = promises.tenant_labels
        self._slo = SloMetrics(metrics.registry, model, promises.classes, labels, now)

    def first_token(self, request: EngineRequest, seconds: float, now: float) -> None:
        """The first token of a request came, so long after it was taken."""
        promise = self._promises.to(request.caller.tenant)
        self._metrics.first_token(seconds, promise.slo_class, _exemplar(request))
        self._signals.first_token(seconds / promise.slo.ttft_of(request.prompt_tokens), now)

    def ended(self, request: EngineRequest, state: FlowState, end: Ending, now: float) -> None:
        """A request that was let in has ended."""
        promise = self._promises.to(request.caller.tenant)
        verdict = judge(promise.slo, request.prompt_tokens, end)
        label, prompt = promise.tenant_label, request.prompt_tokens
        self._slo.ended(promise.slo_class, label, verdict, prompt, end.tokens, now)
        if end.reason is None and end.tpot_s is not None:
            self._metrics.answered(end.tpot_s)
            self._signals.answered(end.tpot_s / promise.slo.tpot_s, now)
        self._recent.ended(prompt, state, end, now)
        _tell(request, state, end)

    def recent(self) -> list[dict[str, Any]]:
        """The requests of the last hour that ended well, in what JSON can hold."""
        return [row._asdict() for row in self._recent.rows(self._now())]


def _exemplar(request: EngineRequest) -> dict[str, str] | None:
    trace_id = _trace_id(request)
    if trace_id is None:
        return None
    return {"trace_id": trace_id, "request_id": request.request_id[:_ID_CHARS_MAX]}


def _trace_id(request: EngineRequest) -> str | None:
    """Of its own trace, or of the caller's where that one is not continued."""
    context = request.caller.trace if request.trace is None else request.trace.context
    return None if context is None else context.trace


def _tell(request: EngineRequest, state: FlowState, end: Ending) -> None:
    level = _level(end.reason)
    if not _log.isEnabledFor(level):
        return
    plan, last = state.plan, state.log[-1].event if state.log else None
    about = {
        "request_id": request.request_id,
        "trace_id": _trace_id(request),
        "tenant": request.caller.tenant,
        "reason": "finished" if end.reason is None else end.reason.value,
        "cause": None if last is None else last.cause,
        "worker": None if plan is None else plan.decode,
        "attempts": state.attempt + 1,
        "prompt_tokens": request.prompt_tokens,
        "output_tokens": end.tokens,
        "ttft_s": None if end.ttft_s is None else round(end.ttft_s, 4),
        "duration_s": round(end.lasted_s, 4),
    }
    known = {key: value for key, value in about.items() if value is not None}
    _log.log(level, "request ended", extra=known)


def _level(reason: Reason | None) -> int:
    if reason in FAULTS:
        return logging.WARNING
    return logging.DEBUG if reason in (None, Reason.CANCELLED) else logging.INFO
