"""One interface for every KV connector, seen from a worker.

A handoff is described by what it writes into the engine's configuration and into the two legs of a
request. Whether the decode leg may be sent before prefill has ended is its `dispatch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from baton.messages import Dispatch, Ticket
from baton.settings.model import KvTransferSettings
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixl, VllmNixlPull, VllmNixlPush


class Handoff(Protocol):
    """A KV connector as the workers use it."""

    @property
    def name(self) -> str:
        """As in `kv_transfer.connector` of the settings; part of the config digest."""

    @property
    def dispatch(self) -> Dispatch:
        """When the decode leg may be sent."""

    def environment(self, host: str) -> Mapping[str, str]:
        """Variables for the engine's process, set before vLLM is imported. `host` is the address
        that peers reach this worker at."""

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        """Arguments of vLLM's KVTransferConfig on `device` ("cpu" or "cuda")."""

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        """`kv_transfer_params` of the prefill leg."""

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        """What the finished prefill leg's engine said, packed for the decode leg's ticket.

        Raises BatonError TRANSFER_FAILED when the engine kept nothing to hand over.
        """

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        """`kv_transfer_params` of the decode leg. Raises BatonError TRANSFER_FAILED for a ticket
        that names nothing."""


def reaches_resumed(handoff: Handoff) -> bool:
    """Whether the KV of outputs that a request is resumed with is handed over, too."""
    # vLLM's connectors expect exactly the prompt's: given more, decode reads the wrong blocks.
    return not isinstance(handoff, VllmNixl)


def handoff_for(settings: KvTransferSettings) -> Handoff:
    """The handoff that the settings name."""
    if settings.connector == BatonPush.name:
        return BatonPush(settings)
    chosen = VllmNixlPush if settings.connector == VllmNixlPush.name else VllmNixlPull
    return chosen(settings.abort_timeout_s, settings.ucx_tls, settings.on_load_failure)
