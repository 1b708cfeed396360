"""The settings' connector name decides the handoff."""

from __future__ import annotations

from typing import get_args

import pytest

from baton.messages import Dispatch
from baton.settings import KvTransferSettings
from kv_transfer.handoff import handoff_for
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixl, VllmNixlPull, VllmNixlPush

NAMES = get_args(KvTransferSettings.model_fields["connector"].annotation)


def test_settings_know_all_connectors() -> None:
    assert set(NAMES) == {"vllm-nixl-pull", "vllm-nixl-push", "baton"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_settings_allow_has_a_handoff(name: str) -> None:
    settings = KvTransferSettings(connector=name)  # type: ignore[arg-type]
    assert handoff_for(settings).name == name


@pytest.mark.parametrize("kind", [VllmNixlPull, VllmNixlPush])
def test_vllms_connectors_are_sequential_and_get_their_settings(kind: type[VllmNixl]) -> None:
    settings = KvTransferSettings(
        connector=kind.name,  # type: ignore[arg-type]
        ucx_tls="tcp",
        abort_timeout_s=7,
        on_load_failure="recompute",
    )
    handoff = handoff_for(settings)
    assert isinstance(handoff, kind)
    assert handoff.dispatch is Dispatch.SEQUENTIAL
    assert handoff._ucx_tls == "tcp"
    config = handoff.transfer_config("cpu")
    assert config["kv_load_failure_policy"] == "recompute"
    assert config["kv_connector_extra_config"] == {"kv_lease_duration": 7}


def test_batons_connector_is_concurrent() -> None:
    handoff = handoff_for(KvTransferSettings(connector="baton"))
    assert isinstance(handoff, BatonPush)
    assert handoff.dispatch is Dispatch.CONCURRENT
