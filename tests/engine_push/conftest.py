"""Two engines joined by Baton's connector, with every checksum checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.engines import WITH_PUSH, ClusterOfTwo, gone_within
from benchmarks.legs import PushPair
from tests.engine.conftest import Reference, the_reference

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Answers of one vLLM engine, which has ended."""
    return the_reference()


@pytest.fixture(scope="package")
def cluster(reference: Reference) -> Iterator[ClusterOfTwo]:
    """Both engines; nothing of them may be left at the end."""
    cluster = ClusterOfTwo(WITH_PUSH)
    yield cluster
    cluster.stop()
    assert cluster.leftovers() == []


@pytest_asyncio.fixture
async def pair(cluster: ClusterOfTwo) -> AsyncIterator[PushPair]:
    """A router's links; no leg may be left, and every block has to come back."""
    async with PushPair(cluster) as pair:
        yield pair
        if not gone_within(cluster.prefill.info.engine_pid, 0.1):
            await pair.until_empty()
