"""vLLM's NIXL connectors are what `kv_transfer` takes them for. No engine runs here."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
from nixl._api import nixl_thread_sync_t
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.nixl import base_worker, push_worker
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import (
    NixlConnector,
    NixlPullConnector,
    NixlPushConnector,
)

from kv_transfer import quiet_nixl
from kv_transfer.vllm_nixl import VllmNixlPull, VllmNixlPush

HANDOFF = VllmNixlPull(lease_s=30, ucx_tls=None)
PUSH = VllmNixlPush(lease_s=30, ucx_tls=None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_connector_is_found_by_vllm(device: str) -> None:
    config = KVTransferConfig(**HANDOFF.transfer_config(device))
    found = KVConnectorFactory.get_connector_class(config)
    assert issubclass(found, NixlPullConnector)
    assert (found is quiet_nixl.QuietNixlPullConnector) == (device == "cpu")


def test_nixl_connector_is_the_one_that_pulls() -> None:
    assert NixlConnector is NixlPullConnector


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_pushing_connector_is_found_by_vllm(device: str) -> None:
    config = KVTransferConfig(**PUSH.transfer_config(device))
    found = KVConnectorFactory.get_connector_class(config)
    assert issubclass(found, quiet_nixl.PairedNixlPushConnector)
    assert issubclass(found, NixlPushConnector)
    assert issubclass(found, quiet_nixl.QuietNixlPushConnector) == (device == "cpu")


def test_the_pushing_connector_pairs_legs_by_what_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker: Any = push_worker.NixlPushConnectorWorker.__new__(push_worker.NixlPushConnectorWorker)
    monkeypatch.setattr(push_worker, "get_base_request_id", quiet_nixl.without_kind)
    worker._pending_d_registrations = {"b.0.d": {"of": "b"}, "a.0.d": {"of": "a"}}
    worker._push_finished_blocks = {"c.0.p": ([1],), "a.1.p": ([2],)}
    assert worker._pop_matching_registration("a.0.p") == {"of": "a"}
    assert worker._pop_matching_registration("a.0.p") is None
    assert worker._pop_matching_finished_blocks("c.0.d") == ("c.0.p", ([1],))
    assert worker._pop_matching_finished_blocks("a.0.d") is None


def test_an_id_without_a_kind_is_paired_as_it_is() -> None:
    assert [quiet_nixl.without_kind(i) for i in ("a.0.p", "a.0.d", "a", "")] == [
        "a.0",
        "a.0",
        "a",
        "",
    ]


def test_the_connector_takes_its_agents_configuration_from_where_it_is_replaced() -> None:
    assert callable(base_worker.nixl_agent_config)
    assert "enable_prog_thread" in inspect.signature(base_worker.nixl_agent_config).parameters
    original = base_worker.nixl_agent_config
    with quiet_nixl._quiet_agents():
        made = base_worker.nixl_agent_config(num_threads=4, capture_telemetry=True)
    assert base_worker.nixl_agent_config is original
    assert made.enable_pthread is False
    assert made.sync_mode is nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT


def test_a_connector_leaves_its_engine_on_all_its_cores() -> None:
    assert "os.sched_setaffinity(0, rsv_cores_for_kv)" in inspect.getsource(base_worker)
    cores = os.sched_getaffinity(0)
    with quiet_nixl._quiet_agents():
        os.sched_setaffinity(0, {min(cores)})
    assert os.sched_getaffinity(0) == cores
