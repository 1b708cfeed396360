"""Decode legs: the ticket is claimed, tokens are delivered."""

from __future__ import annotations

from baton.errors import BatonError, Reason
from engine.ports import Engine, LegEnd, Output, Request
from engine.role import Handed, Intake
from kv_transfer.handoff import Handoff


class SoloRole:
    """Legs that are prefilled and decoded on this worker."""

    delivers_tokens = True
    computes_prompt = True

    def request(self, engine: Engine, intake: Intake) -> Request:
        return engine.decode_request(intake.payload, intake.leg_id, None, intake.resumed)

    def handed(self, engine: Engine, output: Output) -> Handed:
        raise BatonError(Reason.INTERNAL, "this leg hands nothing over")

    def failure(self, end: LegEnd, had_output: bool) -> tuple[str, str]:
        return Reason.ENGINE_FAILED.value, f"the request was {end.value} by the engine"


class DecodeRole(SoloRole):
    """Legs whose KV comes from a prefill worker."""

    computes_prompt = False

    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff

    def request(self, engine: Engine, intake: Intake) -> Request:
        if intake.ticket is None:
            raise BatonError(Reason.INVALID_REQUEST, "a decode leg needs a ticket")
        params = self._handoff.decode_params(intake.ticket)
        return engine.decode_request(intake.payload, intake.leg_id, params, intake.resumed)

    def failure(self, end: LegEnd, had_output: bool) -> tuple[str, str]:
        # Before the first token the engine has done nothing but fetch the KV.
        if end is LegEnd.FAILED and not had_output:
            return Reason.TRANSFER_FAILED.value, "the KV could not be fetched from prefill"
        return super().failure(end, had_output)
