"""Prefill legs: the ticket is opened, the prompt computed, and what decode needs handed over."""

from __future__ import annotations

from baton.errors import BatonError, Reason
from engine.ports import Engine, LegEnd, Output, Request
from engine.role import Handed, Intake
from kv_transfer.handoff import Handoff, reaches_resumed


class PrefillRole:
    """Legs whose KV is for another worker."""

    delivers_tokens = False
    computes_prompt = True

    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff

    def request(self, engine: Engine, intake: Intake) -> Request:
        if intake.ticket is None:
            raise BatonError(Reason.INVALID_REQUEST, "a prefill leg needs a ticket")
        params = self._handoff.prefill_params(intake.ticket)
        # Otherwise the decode worker computes them itself: they are few beside a prompt.
        resumed = intake.resumed if reaches_resumed(self._handoff) else ()
        return engine.prefill_request(intake.payload, intake.leg_id, params, resumed)

    def handed(self, engine: Engine, output: Output) -> Handed:
        handed = self._handoff.handed(engine.kv_params(output))
        return Handed(handed, engine.cached_tokens(output))

    def failure(self, end: LegEnd, had_output: bool) -> tuple[str, str]:
        return Reason.ENGINE_FAILED.value, f"prefill was {end.value} by the engine"
