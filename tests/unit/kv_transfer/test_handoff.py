"""The settings' connector name decides the handoff."""

from __future__ import annotations

from typing import get_args

import pytest

from baton.errors import BatonError, Reason
from baton.messages import Dispatch
from baton.settings import KvTransferSettings
from kv_transfer.handoff import handoff_for
from kv_transfer.vllm_nixl import VllmNixlPull

NAMES = get_args(KvTransferSettings.model_fields["connector"].annotation)


@pytest.mark.parametrize("name", NAMES or ["vllm-nixl-pull"])
def test_every_name_that_settings_allow_has_a_handoff(name: str) -> None:
    assert handoff_for(name, 30, None).name == name


def test_the_pull_connector_is_sequential() -> None:
    handoff = handoff_for("vllm-nixl-pull", 30, "tcp")
    assert isinstance(handoff, VllmNixlPull)
    assert handoff.dispatch is Dispatch.SEQUENTIAL


@pytest.mark.parametrize("name", ["", "nixl", "VLLM-NIXL-PULL"])
def test_an_unknown_connector_is_refused_by_name(name: str) -> None:
    with pytest.raises(BatonError, match=repr(name)) as caught:
        handoff_for(name, 30, None)
    assert caught.value.reason is Reason.UNSUPPORTED
