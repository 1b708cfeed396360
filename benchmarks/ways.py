"""The ways a benchmark hands KV over, as handoffs of one pair of engines.

A ticket's id begins with the way of its request. `pull`, `push`: vLLM's connectors. `baton`,
`chunk`, `layer`: Baton's, streaming as its settings say, or by chunk, or by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from baton.messages import Dispatch, Ticket
from baton.settings import KvTransferSettings
from kv_transfer.handoff import Handoff
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixlPull, VllmNixlPush

BY = "by"
"""Key in a request's kv_transfer_params: whose it is."""
PUSH_PORT = "BATON_BENCHMARK_PUSH_PORT"
_PORT = "VLLM_NIXL_SIDE_CHANNEL_PORT"
_MODULE = "benchmarks.handoff_connectors"
STREAMS = ("chunk", "layer")


def way_of(ticket_id: str) -> str:
    """The way in a ticket's id."""
    return ticket_id.partition("-")[0]


class ThreeHandoffs:
    """All ways at once, on CPU."""

    name = "three"
    dispatch = Dispatch.CONCURRENT
    vllms: ClassVar[tuple[str, str]] = ("Pull", "Push")

    def __init__(self, settings: KvTransferSettings) -> None:
        common = (settings.abort_timeout_s, settings.ucx_tls)
        self._baton = BatonPush(settings)
        self._by: dict[str, Handoff] = {
            "pull": VllmNixlPull(*common),
            "push": VllmNixlPush(*common),
        }

    def environment(self, host: str) -> Mapping[str, str]:
        pull, push = (h.environment(host) for h in self._by.values())
        return {**self._baton.environment(host), **pull, PUSH_PORT: push[_PORT]}

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        vllms = [
            {**h.transfer_config(device), **_of_benchmark(name)}
            for h, name in zip(self._by.values(), self.vllms, strict=True)
        ]
        connectors = [*vllms, self._baton.transfer_config(device)]
        return {
            "kv_role": "kv_both",
            "kv_load_failure_policy": "fail",
            "kv_connector_extra_config": {"connectors": connectors},
            **_of_benchmark("ThreeConnectors"),
        }

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        way = way_of(ticket.ticket_id)
        params = {**self._of(ticket).prefill_params(ticket), BY: way}
        return {**params, "stream": way} if way in STREAMS else params

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        return self._by["pull"].handed(engine_params) if engine_params else b"pushed"

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        return {**self._of(ticket).decode_params(ticket), BY: way_of(ticket.ticket_id)}

    def _of(self, ticket: Ticket) -> Handoff:
        return self._by.get(way_of(ticket.ticket_id), self._baton)


class PullWithProgressThread(ThreeHandoffs):
    """vLLM's pull as it comes: NIXL's progress thread polls in each engine. The others do without,
    so that there is one per engine, as where only one connector is loaded."""

    vllms = ("LoudPull", "Push")


class PushWithProgressThread(ThreeHandoffs):
    """The same with vLLM's push."""

    vllms = ("Pull", "LoudPush")


def _of_benchmark(name: str) -> dict[str, str]:
    return {"kv_connector": name, "kv_connector_module_path": _MODULE}
