"""What is true of every state of both ends."""

from __future__ import annotations

from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import (
    LOG_ENTRIES_MAX,
    SourcePhase,
    SourceState,
    TargetPhase,
    TargetState,
)


def check_source(state: SourceState) -> None:
    """Raises AssertionError when the state contradicts itself."""
    over = state.phase in (SourcePhase.QUIET, SourcePhase.CLOSED)
    releases = [c for entry in state.log for c in entry.commands if isinstance(c, w.Release)]
    assert not (over and state.flights), "quiet with posts in flight"
    assert state.engine_done or not state.closed, "closed before the engine ended the request"
    assert len(releases) <= 1, "released twice"
    assert max(state.computed, default=0) <= len(state.blocks), "computed beyond its blocks"
    assert len({post.post_id for post in state.flights}) == len(state.flights) <= state.posts
    assert len(state.log) <= LOG_ENTRIES_MAX
    if state.register is None:
        assert state.posts == 0, "posted without a target"
    else:
        assert state.register.first <= min(state.posted)
        assert max(state.posted) <= state.register.total


def check_target(state: TargetState) -> None:
    """Raises AssertionError when the state contradicts itself."""
    lasts = w.Received | w.LoadFailed | w.Freed
    ends = [c for entry in state.log for c in entry.commands if isinstance(c, lasts)]
    assert len(ends) <= 1, "a load is reported once"
    assert state.closed or not ends, "reported before the end"
    assert not state.closed or state.register is None or ends, "closed without a report"
    assert len(state.log) <= LOG_ENTRIES_MAX
    loading = (TargetPhase.REGISTERED, TargetPhase.STREAMING, TargetPhase.LANDED)
    assert state.phase not in loading or state.reason is None, "a failed load goes on"
    if state.register is None:
        assert state.phase in (TargetPhase.OPENED, TargetPhase.CLOSED)
        return
    everything = (1 << state.layers * len(state.register.blocks)) - 1
    assert state.landed | everything == everything, "beyond its blocks"
    if state.phase is TargetPhase.LANDED:
        assert state.verifying, "landed and verified, and not reported"
