"""The world of the controller's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.cluster.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.controller.kill()
    assert not any(handle.alive for handle in world.factory.handles.values())
