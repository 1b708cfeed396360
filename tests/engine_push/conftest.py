"""Two engines joined by Baton's connector, with every checksum checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.engines import WITH_PUSH, ClusterOfTwo, gone_within
from benchmarks.legs import PushPair
from tests.engine.conftest import Reference, mark, put_last, started, the_reference

HERE = Path(__file__).parent
LAST = "test_push.py"
"""Leaves no prefill worker behind for others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests and put the ones that kill engines last."""
    put_last(LAST, mark(items, HERE), items)


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Answers of one vLLM engine, which has ended."""
    return the_reference()


@pytest.fixture(scope="package")
def cluster(reference: Reference) -> Iterator[ClusterOfTwo]:
    """Both engines."""
    with started(WITH_PUSH) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pair(cluster: ClusterOfTwo) -> AsyncIterator[PushPair]:
    """A router's links; no leg may be left, and every block has to come back."""
    async with PushPair(cluster) as pair:
        yield pair
        if not gone_within(cluster.prefill.info.engine_pid, 0.1):
            await pair.until_empty()
