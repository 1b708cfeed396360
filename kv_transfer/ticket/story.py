"""The life of one end of a ticket as text, one line per event and command."""

from __future__ import annotations

from kv_transfer.ticket.states import SourceState, TargetState


def source_story(state: SourceState) -> str:
    """What happened to the prefill end, one line per event and command."""
    head = f"source of {state.key.ticket_id} epoch {state.key.epoch}, rank {state.rank}"
    lines = [f"{head}: {state.phase.value}, {state.reason or 'no fault'}"]
    for entry in state.log:
        lines.append(f"  {entry.event} -> {entry.phase.value}")
        lines.extend(f"    {command}" for command in entry.commands)
    return "\n".join(lines)


def target_story(state: TargetState) -> str:
    """What happened to the decode end, one line per event and command."""
    head = f"target of {state.key.ticket_id} epoch {state.key.epoch}, rank {state.rank}"
    phase = state.phase.value
    lines = [f"{head}: {phase}, {state.reason or 'no fault'}, {state.late} late"]
    for entry in state.log:
        lines.append(f"  {entry.event} -> {entry.phase.value}")
        lines.extend(f"    {command}" for command in entry.commands)
    return "\n".join(lines)
