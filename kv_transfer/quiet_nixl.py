"""vLLM's NIXL connector without NIXL's progress thread, for engines on CPU.

That thread polls one full core per engine, idle or not; on a machine where engines compute on CPU
it takes the cores they need. Nothing is lost without it: vLLM keeps stepping an engine, and each
step polls its agent, for as long as blocks wait to be fetched. One of the few files that touch
vLLM's internals (covered by the engine contract tests).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.nixl import base_worker
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector


class QuietNixlPullConnector(NixlPullConnector):
    """Loaded by module path in place of `NixlConnector`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _quiet_agents():
            super().__init__(*args, **kwargs)


@contextmanager
def _quiet_agents() -> Iterator[None]:
    original = base_worker.nixl_agent_config

    def quiet(**settings: Any) -> Any:
        # Worker threads imply a progress thread each.
        settings.pop("num_threads", None)
        return original(**settings, enable_prog_thread=False)

    base_worker.nixl_agent_config = quiet
    try:
        yield
    finally:
        base_worker.nixl_agent_config = original
