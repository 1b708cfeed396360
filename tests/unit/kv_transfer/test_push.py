"""What Baton's connector writes into the engine's configuration and into both legs."""

from __future__ import annotations

import base64

import pytest

from baton.errors import BatonError, Reason
from baton.messages import Ticket
from baton.settings import KvTransferSettings
from kv_transfer.push import BatonPush

SETTINGS = KvTransferSettings(
    connector="baton", verify="full", write_deadline_s=3, abort_timeout_s=4
)
TICKET = Ticket("t-1", 2, 30.0, peer=b"\x00peer\xff")


def test_the_connector_is_found_by_module_path_and_gets_its_limits() -> None:
    config = BatonPush(SETTINGS).transfer_config("cpu")
    assert config["kv_connector"] == "BatonConnector"
    assert config["kv_connector_module_path"] == "kv_transfer.connector"
    assert config["kv_load_failure_policy"] == "recompute"
    assert config["kv_connector_extra_config"] == {
        "stream": "layer",
        "verify": "full",
        "write_deadline_s": 3,
        "hold_s": 4,
        "min_gb_per_second": SETTINGS.min_gb_per_second,
        "refuse_slow": False,
        "ucx_tls": None,
    }


@pytest.mark.parametrize(
    ("host", "tls", "expected"),
    [
        ("127.0.0.1", None, {"UCX_NET_DEVICES": "lo"}),
        ("10.0.0.7", None, {}),
        ("10.0.0.7", "tcp", {"UCX_TLS": "tcp"}),
        ("127.0.0.1", "shm", {"UCX_NET_DEVICES": "lo", "UCX_TLS": "shm"}),
    ],
)
def test_transports_come_from_the_settings(host: str, tls: str | None, expected: object) -> None:
    settings = SETTINGS.model_copy(update={"ucx_tls": tls})
    assert BatonPush(settings).environment(host) == expected


def test_each_leg_names_the_ticket_and_its_peer() -> None:
    push = BatonPush(SETTINGS)
    common = {"ticket": "t-1", "epoch": 2, "peer": base64.b64encode(TICKET.peer).decode()}
    assert push.prefill_params(TICKET) == {"baton": "prefill", **common}
    assert push.decode_params(TICKET) == {"baton": "decode", **common}


def test_prefill_hands_nothing_on_after_its_end() -> None:
    assert BatonPush(SETTINGS).handed({"anything": 1}) == b""
    assert BatonPush(SETTINGS).handed(None) == b""


def test_a_ticket_without_a_peer_is_refused_for_both_legs() -> None:
    push = BatonPush(SETTINGS)
    nobody = Ticket("t-1", 2, 30.0)
    for params in (push.prefill_params, push.decode_params):
        with pytest.raises(BatonError) as caught:
            params(nobody)
        assert caught.value.reason is Reason.TRANSFER_FAILED
