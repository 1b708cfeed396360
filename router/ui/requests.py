"""One request as the page tells it: a row of the list of late, and its whole story."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router.life import Entry, Event, Fail, FlowState, Planned, TokensCame
from router.policy.types import Plan
from router.split import Part, Split


def rows(states: Iterable[FlowState], now: float) -> list[dict[str, Any]]:
    """One row for each of them that has begun, the youngest first. `now` on the flows' clock."""
    found = [row(state, now) for state in states if state.log]
    return sorted(found, key=lambda one: float(one["age_s"]))


def row(state: FlowState, now: float) -> dict[str, Any]:
    """Times in seconds; a request that runs has no duration."""
    began = state.log[0].event.at_s
    plan, first = _plan(state), _first(state, TokensCame)
    why = None if plan is None else plan.explanation
    return {
        "id": state.request_id,
        "outcome": _outcome(state),
        "age_s": max(now - began, 0.0),
        "ttft_s": None if first is None else first - began,
        "duration_s": state.log[-1].event.at_s - began if state.closed else None,
        "attempts": state.attempt + 1,
        "prefill": None if plan is None else plan.prefill,
        "decode": None if plan is None else plan.decode,
        "division": None if plan is None else plan.reason.value,
        "prompt_tokens": None if why is None else why.prompt_tokens,
    }


def parts(split: Split | None) -> dict[str, float]:
    """Seconds of the time to its first token by part, in their order; empty before that token."""
    return {} if split is None else {part.value: split.seconds(part) for part in Part}


def _plan(state: FlowState) -> Plan | None:
    plans = [entry.event.plan for entry in state.log if isinstance(entry.event, Planned)]
    return plans[-1] if plans else None


def _first(state: FlowState, kind: type[Event]) -> float | None:
    return next((e.event.at_s for e in state.log if isinstance(e.event, kind)), None)


def _outcome(state: FlowState) -> str:
    """Where it is, or how it ended."""
    return _ended(state.log[-1]) if state.closed else state.phase.value


def _ended(last: Entry) -> str:
    for command in last.commands:
        reason = getattr(command, "reason", None)
        if isinstance(command, Fail) or reason is not None:
            return str(reason)
    return "finished"
