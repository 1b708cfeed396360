"""What the handoff benchmark reports, and how requests name their way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baton.errors import BatonError
from baton.messages import Ticket
from baton.settings import KvTransferSettings
from benchmarks import handoff_runs, link, wide_model
from benchmarks.handing import Seen
from benchmarks.ways import BY, ThreeHandoffs, WithProgressThreads
from engine.model_folder import read_model_folder

HANDOFFS = ThreeHandoffs(KvTransferSettings(connector="baton", ucx_tls="tcp"))
WORD = {"remote_block_ids": [[1]], "remote_port": 7}
SEEN = {
    way: {1024: [Seen(1.0, exposed, 1.5) for exposed in times]}
    for way, times in {"baton": (0.01, 0.03, 0.02), "pull": (0.2,), "push": (0.1,)}.items()
}
ON_LINK = {"by_factor": {"1": {"chunk": {"share": 0.2}, "layer": {"share": 0.1}}}}


def test_the_keys_that_are_promised() -> None:
    keys = handoff_runs._keys(SEEN, ON_LINK)
    assert keys["exposed_ms_p50"] == {"baton": 20.0, "vllm_pull": 200.0, "vllm_push": 100.0}
    assert keys["shaped_exposed_share_chunked"] == 0.2
    assert keys["shaped_exposed_share_layered"] == 0.1


def test_without_a_link_its_figures_are_null() -> None:
    keys = json.loads(json.dumps(handoff_runs._keys(SEEN, None)))
    assert keys["shaped_exposed_share_chunked"] is None
    assert keys["shaped_exposed_share_layered"] is None


def test_figures_by_length() -> None:
    found = handoff_runs._by_length(SEEN)["1024"]
    assert found["kv_mib"] == 64
    assert found["vllm_pull"] == {"prefill_ms": 1000, "exposed_ms": 200, "first_token_ms": 1200}


@pytest.mark.parametrize("way", ["pull", "push"])
def test_vllms_legs_say_whose_they_are(way: str) -> None:
    ticket = Ticket(f"{way}-1", 0, 30.0, HANDOFFS.handed(WORD))
    assert HANDOFFS.prefill_params(ticket)[BY] == way
    assert HANDOFFS.decode_params(ticket)[BY] == way
    assert HANDOFFS.decode_params(ticket)["remote_port"] == 7


@pytest.mark.parametrize(
    ("way", "stream"), [("baton", None), ("chunk", "chunk"), ("layer", "layer")]
)
def test_batons_prefill_leg_says_how_to_stream(way: str, stream: str | None) -> None:
    params = HANDOFFS.prefill_params(Ticket(f"{way}-1", 0, 30.0, peer=b"somebody"))
    assert params.get("stream") == stream
    assert "do_remote_decode" not in params


def test_batons_legs_need_a_peer() -> None:
    with pytest.raises(BatonError):
        HANDOFFS.decode_params(Ticket("baton-1", 0, 30.0))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ThreeHandoffs, ["Pull", "Push", "BatonConnector"]),
        (WithProgressThreads, ["LoudPull", "LoudPush", "BatonConnector"]),
    ],
)
def test_all_connectors_are_in_one_engine(kind: type[ThreeHandoffs], names: list[str]) -> None:
    config = kind(KvTransferSettings(connector="baton")).transfer_config("cpu")
    inner = config["kv_connector_extra_config"]["connectors"]
    assert [each["kv_connector"] for each in inner] == names


def test_the_wide_model_passes_for_a_model(tmp_path: Path) -> None:
    found = read_model_folder(wide_model.make(tmp_path, 4096))
    assert found.max_len_tokens == 4096
    assert found.kv_values_per_token == wide_model.KV_BYTES_PER_TOKEN // wide_model.BYTES


def test_the_8b_shape_has_the_kv_that_rates_are_computed_from(tmp_path: Path) -> None:
    found = read_model_folder(wide_model.make_8b(tmp_path, 40_000))
    assert found.kv_values_per_token == wide_model.KV_BYTES_PER_TOKEN_8B // 2


def test_only_kv_passes_the_slow_class() -> None:
    assert link._class(link._KV, 50e6).startswith(
        "tc class replace dev lo parent 1: classid 1:20 htb rate 400000000bit"
    )
    assert all(f"flowid {link._FAST}" in c for c in link._SET_UP if "filter" in c)
