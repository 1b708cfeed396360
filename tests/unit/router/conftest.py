"""The scene of the heart's tests."""

from collections.abc import AsyncIterator

import pytest

from baton.settings import Settings
from router import flow
from tests.unit.router.fakes import Scene

SETTINGS = Settings.model_validate(
    {
        "router": {
            "max_inflight_requests": 3,
            "request_timeout_s": 60.0,
            "retry_after_s": 2.0,
            "policy": "least_loaded",
        }
    }
)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A heart without workers. At the end nothing may be left over but what the test left open."""
    scene = Scene(SETTINGS)
    yield scene
    for one in list(scene.heart._ledger):
        flow.check_invariants(one.state)
        scene.heart.abort([one.request.request_id])
    assert scene.heart.inflight == 0
    for peer in scene.heart._registry.peers():
        assert (peer.answering, peer.prefilling, peer.promised) == ({}, {}, {})
    await scene.heart.aclose()
    assert all(link.closed for link in scene.links.values())
