"""Both of vLLM's NIXL connectors and Baton's in one engine; the request says whose it is.

vLLM's MultiConnector alone cannot hold its pulling and its pushing connector at once: both answer
to the same words in a request, both would listen on the same port, and only the first one's
handshake is published. Nor does it tell the engine that a push is under way. One of the few files
that touch vLLM's internals, for measuring only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorHandshakeMetadata
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import (
    NixlBaseConnector,
    NixlPullConnector,
)

from benchmarks.ways import BY, PUSH_PORT
from kv_transfer.quiet_nixl import (
    PairedNixlPushConnector,
    QuietNixlPullConnector,
    QuietNixlPushConnector,
)


class _Mine(NixlBaseConnector):  # type: ignore[misc]
    """Hides requests that are for another connector."""

    by: str

    def _is_mine(self, request: Any) -> bool:
        return (request.kv_transfer_params or {}).get(BY) == self.by

    def on_new_request(self, request: Any) -> None:
        if self._is_mine(request):
            super().on_new_request(request)

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        if not self._is_mine(request):
            return 0, False
        found: tuple[int | None, bool] = super().get_num_new_matched_tokens(
            request, num_computed_tokens
        )
        return found

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        if self._is_mine(request):
            super().update_state_after_alloc(request, blocks, num_external_tokens)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return (
            super().request_finished(request, block_ids)
            if self._is_mine(request)
            else (False, None)
        )


class _Pushing(_Mine):
    """On a port of its own."""

    by = "push"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.connector_scheduler is not None:
            self.connector_scheduler.side_channel_port = int(os.environ[PUSH_PORT])


class _Pulling(_Mine):
    by = "pull"


class Pull(_Pulling, QuietNixlPullConnector):
    """vLLM's pulling connector without a progress thread."""


class LoudPull(_Pulling, NixlPullConnector):  # type: ignore[misc]
    """As vLLM has it."""


class Push(_Pushing, QuietNixlPushConnector):
    """vLLM's pushing connector without a progress thread."""


class LoudPush(_Pushing, PairedNixlPushConnector):
    """As vLLM has it."""


@dataclass
class Handshakes(KVConnectorHandshakeMetadata):  # type: ignore[misc]
    """What each connector tells its like; None for those that need nothing."""

    each: list[KVConnectorHandshakeMetadata | None]


class ThreeConnectors(MultiConnector):  # type: ignore[misc]
    """Loaded by module path. One device per engine."""

    def get_handshake_metadata(self) -> Handshakes:
        return Handshakes([c.get_handshake_metadata() for c in self._connectors])

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[tuple[int, int], Any]) -> None:
        for i, connector in enumerate(self._connectors):
            mine = {rank: found.each[i] for rank, found in metadata.items()}
            if None not in mine.values():
                connector.set_xfer_handshake_metadata_pp_aware(mine)

    def has_pending_push_work(self) -> bool:
        return any(connector.has_pending_push_work() for connector in self._connectors)
