"""What vLLM's NIXL connectors need in configuration, environment and both legs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import BatonError, Reason
from baton.messages import Ticket
from kv_transfer import vllm_nixl
from kv_transfer.vllm_nixl import VllmNixl, VllmNixlPull, VllmNixlPush

TICKET = Ticket("t", 1, 30.0)
HANDOFF = VllmNixlPull(lease_s=30, ucx_tls=None)
PUSH = VllmNixlPush(lease_s=30, ucx_tls=None)
SAID: dict[str, Any] = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": ([3, 4], []),
    "remote_engine_id": "e",
    "remote_request_id": "a.0.p",
    "remote_host": "127.0.0.1",
    "remote_port": 5600,
    "tp_size": 1,
}
JSON_VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@pytest.fixture(autouse=True)
def one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_nixl, "_free_port", lambda host: 5601)


def test_the_prefill_leg_keeps_its_blocks_for_somebody() -> None:
    assert HANDOFF.prefill_params(TICKET) == {"do_remote_decode": True, "do_remote_prefill": False}


def test_the_decode_leg_fetches_what_prefill_said() -> None:
    ticket = Ticket("t", 1, 30.0, HANDOFF.handed(SAID))
    params = HANDOFF.decode_params(ticket)
    assert params == {**SAID, "remote_block_ids": [[3, 4], []]}
    assert params["do_remote_prefill"] is True
    assert params["do_remote_decode"] is False


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_what_is_handed_over_arrives_and_the_direction_is_ours(more: dict[str, Any]) -> None:
    said = {**more, "remote_block_ids": [[1]]}
    params = HANDOFF.decode_params(Ticket("t", 1, 30.0, HANDOFF.handed(said)))
    assert params == {**said, "do_remote_prefill": True, "do_remote_decode": False}


@pytest.mark.parametrize(
    "said",
    [None, {}, {"remote_block_ids": []}, {"remote_block_ids": None}, {"remote_engine_id": "e"}],
)
def test_nothing_to_hand_over_is_a_failed_transfer(said: dict[str, Any] | None) -> None:
    with pytest.raises(BatonError) as caught:
        HANDOFF.handed(said)
    assert caught.value.reason is Reason.TRANSFER_FAILED


def test_no_block_in_any_group_is_nothing_to_hand_over() -> None:
    with pytest.raises(BatonError) as caught:
        HANDOFF.handed({**SAID, "remote_block_ids": ([], [])})
    assert caught.value.reason is Reason.TRANSFER_FAILED


@pytest.mark.parametrize("handed", [b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b"{}"])
def test_a_ticket_that_names_nothing_is_a_failed_transfer(handed: bytes) -> None:
    with pytest.raises(BatonError) as caught:
        HANDOFF.decode_params(Ticket("t", 1, 30.0, handed))
    assert caught.value.reason is Reason.TRANSFER_FAILED


@given(st.binary(max_size=40))
def test_no_ticket_raises_anything_else(handed: bytes) -> None:
    with suppress(BatonError):
        assert HANDOFF.decode_params(Ticket("t", 1, 30.0, handed))["remote_block_ids"]


@pytest.mark.parametrize(("lease_s", "seconds"), [(0.1, 6), (6, 6), (30.4, 30), (120, 120)])
def test_a_lease_is_whole_seconds_and_long_enough_to_renew(lease_s: float, seconds: int) -> None:
    config = VllmNixlPull(lease_s, None).transfer_config("cpu")
    assert config["kv_connector_extra_config"] == {"kv_lease_duration": seconds}


@pytest.mark.parametrize(
    ("handoff", "device", "connector", "module"),
    [
        (HANDOFF, "cpu", "QuietNixlPullConnector", "kv_transfer.quiet_nixl"),
        (HANDOFF, "cuda", "NixlConnector", None),
        (PUSH, "cpu", "QuietNixlPushConnector", "kv_transfer.quiet_nixl"),
        (PUSH, "cuda", "PairedNixlPushConnector", "kv_transfer.quiet_nixl"),
    ],
)
def test_each_device_has_its_connector(
    handoff: VllmNixl, device: str, connector: str, module: str | None
) -> None:
    config = handoff.transfer_config(device)
    assert config["kv_connector"] == connector
    assert config.get("kv_connector_module_path") == module
    assert config["kv_buffer_device"] == device
    assert config["kv_load_failure_policy"] == "fail"


@pytest.mark.parametrize("policy", ["fail", "recompute"])
@pytest.mark.parametrize("kind", [VllmNixlPull, VllmNixlPush])
def test_the_policy_for_failed_loads_can_be_set(kind: type[VllmNixl], policy: str) -> None:
    config = kind(30, None, policy).transfer_config("cpu")
    assert config["kv_load_failure_policy"] == policy


def test_a_pushing_prefill_says_and_gets_what_a_read_one_does() -> None:
    assert PUSH.prefill_params(TICKET) == HANDOFF.prefill_params(TICKET)
    ticket = Ticket("t", 1, 30.0, PUSH.handed(SAID))
    assert PUSH.decode_params(ticket) == HANDOFF.decode_params(ticket)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "localhost"])
def test_on_loopback_nothing_listens_elsewhere(host: str) -> None:
    env = HANDOFF.environment(host)
    assert env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == host
    assert env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5601"
    assert env["UCX_NET_DEVICES"] == "lo"


def test_on_a_network_ucx_chooses_the_device() -> None:
    assert "UCX_NET_DEVICES" not in HANDOFF.environment("10.0.0.1")


def test_transports_can_be_set() -> None:
    assert "UCX_TLS" not in HANDOFF.environment("127.0.0.1")
    assert VllmNixlPull(30, "tcp").environment("127.0.0.1")["UCX_TLS"] == "tcp"
