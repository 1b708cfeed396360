"""The workers of each role in turn, for comparison.

The turn comes from a count that the caller keeps; what is full or draining is passed over.
"""

from __future__ import annotations

from dataclasses import replace

from baton.messages import Role
from router.policy import least_loaded
from router.policy.types import Plan, PolicyView, Refusal, RequestFacts, WorkerView


def choose(view: PolicyView, request: RequestFacts, turn: int) -> Plan | Refusal:
    """Who serves the request, or why nobody can now."""
    one_each = replace(
        view,
        prefill=_in_turn(view, Role.PREFILL, turn) or view.prefill,
        decode=_in_turn(view, Role.DECODE, turn) or view.decode,
    )
    return least_loaded.choose(one_each, request)


def _in_turn(view: PolicyView, role: Role, turn: int) -> tuple[WorkerView, ...]:
    free = least_loaded.free(view, role)
    return (free[turn % len(free)],) if free else ()
