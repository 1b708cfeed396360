"""The settings' connector name decides the handoff."""

from __future__ import annotations

from typing import get_args

import pytest

from baton.messages import Dispatch
from baton.settings import KvTransferSettings
from kv_transfer.handoff import handoff_for
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixlPull

NAMES = get_args(KvTransferSettings.model_fields["connector"].annotation)


def test_settings_know_both_connectors() -> None:
    assert set(NAMES) == {"vllm-nixl-pull", "baton"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_settings_allow_has_a_handoff(name: str) -> None:
    settings = KvTransferSettings(connector=name)  # type: ignore[arg-type]
    assert handoff_for(settings).name == name


def test_the_pull_connector_is_sequential_and_gets_its_settings() -> None:
    settings = KvTransferSettings(connector="vllm-nixl-pull", ucx_tls="tcp", abort_timeout_s=7)
    handoff = handoff_for(settings)
    assert isinstance(handoff, VllmNixlPull)
    assert handoff.dispatch is Dispatch.SEQUENTIAL
    assert (handoff._lease_s, handoff._ucx_tls) == (7, "tcp")


def test_batons_connector_is_concurrent() -> None:
    handoff = handoff_for(KvTransferSettings(connector="baton"))
    assert isinstance(handoff, BatonPush)
    assert handoff.dispatch is Dispatch.CONCURRENT
