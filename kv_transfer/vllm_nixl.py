"""vLLM's own NIXL connectors: one where decode reads from prefill, one where prefill writes.

Prefill keeps the finished prompt's blocks under a lease and says who and where it is; the decode
leg carries that word. Either it reads the blocks, or it tells prefill which of its own to write
them to. If no decode leg comes, the lease ends and the blocks are freed.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.messages import Dispatch, Ticket
from kv_transfer.ucx import ucx_environment

_LOWEST_PORT = 10_000
_TRIES = 64
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OURS = {"kv_connector_module_path": "kv_transfer.quiet_nixl"}


class VllmNixl:
    """What both have in common.

    `lease_s` is how long prefill keeps blocks that nobody fetches (seconds, at least 6, since the
    connector renews leases every sixth of it). `on_load_failure` is vLLM's policy for blocks that
    could not be read: "fail" ends the request with a typed error, "recompute" computes them.
    """

    name: ClassVar[str]
    # Decode could register its blocks with a prefill that still computes, but a prefill that then
    # ends early tells nobody, and decode would hold the blocks of an aborted request for ever.
    dispatch: ClassVar[Dispatch] = Dispatch.SEQUENTIAL
    connectors: ClassVar[Mapping[str, Mapping[str, str]]]
    """By device: the part of vLLM's configuration that names the connector."""

    def __init__(self, lease_s: float, ucx_tls: str | None, on_load_failure: str = "fail") -> None:
        self._lease_s = max(6, round(lease_s))
        self._ucx_tls = ucx_tls
        self._on_load_failure = on_load_failure

    def environment(self, host: str) -> Mapping[str, str]:
        return {
            "VLLM_NIXL_SIDE_CHANNEL_HOST": host,
            # The connector publishes the port it was told, so it cannot be bound at 0.
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(_free_port(host)),
            **ucx_environment(host, self._ucx_tls),
        }

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        return {
            **self.connectors[device],
            "kv_role": "kv_both",
            "kv_buffer_device": device,
            "kv_load_failure_policy": self._on_load_failure,
            "kv_connector_extra_config": {"kv_lease_duration": self._lease_s},
        }

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        return {"do_remote_decode": True, "do_remote_prefill": False}

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        if not _names_blocks(engine_params):
            raise BatonError(Reason.TRANSFER_FAILED, "prefill ended without KV to hand over")
        return json.dumps(engine_params, separators=(",", ":")).encode()

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        try:
            params = json.loads(ticket.handed)
        except ValueError:
            params = None
        if not _names_blocks(params):
            raise BatonError(
                Reason.TRANSFER_FAILED, "the decode leg's ticket does not say where its KV is"
            )
        return {**params, "do_remote_prefill": True, "do_remote_decode": False}


class VllmNixlPull(VllmNixl):
    """Handoff by NIXL READ after prefill has ended."""

    name = "vllm-nixl-pull"
    connectors: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cuda": {"kv_connector": "NixlConnector"},
        "cpu": {"kv_connector": "QuietNixlPullConnector", **_OURS},
    }


class VllmNixlPush(VllmNixl):
    """Handoff by NIXL WRITE after prefill has ended."""

    name = "vllm-nixl-push"
    connectors: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cuda": {"kv_connector": "PairedNixlPushConnector", **_OURS},
        "cpu": {"kv_connector": "QuietNixlPushConnector", **_OURS},
    }


def _names_blocks(params: Any) -> bool:
    blocks = params.get("remote_block_ids") if isinstance(params, Mapping) else None
    # One list per kind of cache in the model.
    return isinstance(blocks, list | tuple) and any(blocks)


def _free_port(host: str) -> int:
    """A port that nobody holds and that the kernel hands to nobody who asks for any.

    It is bound only after the engine has loaded. A port from the kernel's own range would be given
    to some outgoing connection by then, and the connector waits for ever for the one it was told.
    """
    below = int(_PORT_RANGE.read_text().split()[0])
    # Not reproducible on purpose: two workers that start together must not walk the same way.
    # Where the kernel keeps nearly all ports to itself there is no better choice than any of them.
    pool = range(_LOWEST_PORT, below if below >= _LOWEST_PORT + _TRIES else 65_536)
    for port in random.SystemRandom().sample(pool, _TRIES):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise StartupError(
        StartupFault.PORT_TAKEN, f"no free port from {pool.start} to {pool.stop} on {host}"
    )
