"""A handoff that moves nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baton.errors import BatonError, Reason
from baton.messages import Dispatch, Ticket


class FakeHandoff:
    """Implements `kv_transfer.handoff.Handoff`."""

    name = "fake"
    dispatch = Dispatch.SEQUENTIAL

    def environment(self, host: str) -> Mapping[str, str]:
        return {"FAKE_HOST": host}

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        return {"kv_connector": "Fake"}

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        return {"open": ticket.ticket_id}

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        if not engine_params:
            raise BatonError(Reason.TRANSFER_FAILED, "nothing to hand over")
        return json.dumps(engine_params).encode()

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        if not ticket.handed:
            raise BatonError(Reason.TRANSFER_FAILED, "the ticket names nothing")
        return {"claim": ticket.handed}
