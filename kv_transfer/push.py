"""Baton's own connector as a handoff: prefill writes into decode's blocks while it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from baton.errors import BatonError, Reason
from baton.messages import Dispatch, Ticket
from baton.settings.model import KvTransferSettings
from kv_transfer.scheduling import DECODE, PREFILL, transfer_params
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ucx import ucx_environment


class BatonPush:
    """Handoff by NIXL WRITE, both legs at once under one ticket."""

    name: ClassVar[str] = "baton"
    dispatch: ClassVar[Dispatch] = Dispatch.CONCURRENT

    def __init__(self, settings: KvTransferSettings) -> None:
        self._settings = settings

    def environment(self, host: str) -> Mapping[str, str]:
        return ucx_environment(host, self._settings.ucx_tls)

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        return {
            "kv_connector": "BatonConnector",
            "kv_connector_module_path": "kv_transfer.connector",
            "kv_role": "kv_both",
            "kv_buffer_device": device,
            "kv_load_failure_policy": self._settings.on_load_failure,
            "kv_connector_extra_config": {
                "stream": self._settings.stream,
                "verify": self._settings.verify,
                "write_deadline_s": self._settings.write_deadline_s,
                "hold_s": self._settings.abort_timeout_s,
                "min_gb_per_second": self._settings.min_gb_per_second,
                "refuse_slow": self._settings.on_slow_transport == "refuse",
                "ucx_tls": self._settings.ucx_tls,
            },
        }

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        return _params(ticket, PREFILL)

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        return b""

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        return _params(ticket, DECODE)


def _params(ticket: Ticket, kind: str) -> dict[str, Any]:
    if not ticket.peer:
        raise BatonError(Reason.TRANSFER_FAILED, "the ticket does not say who is at its other end")
    return transfer_params(TicketKey(ticket.ticket_id, ticket.epoch), kind, ticket.peer)
