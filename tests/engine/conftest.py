"""One reference run and one pair of engines serve every test of this tier."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio

from baton.settings import KvTransferSettings
from benchmarks.engines import PULL, SETTINGS, ClusterOfTwo, Setup
from benchmarks.legs import Pair
from benchmarks.oracle import Answer
from benchmarks.reference import Question, answers
from kv_transfer.handoff import Handoff
from tests.engine.corrupting_connector import CorruptibleHandoff
from tests.engine.prompts import prompt, varied_lengths

HERE = Path(__file__).parent
LAST = "test_worker_death.py"
"""Leaves no engine behind for others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests and put the ones that kill engines last."""
    put_last(LAST, mark(items, HERE), items)


def put_last(name: str, mine: list[pytest.Item], items: list[pytest.Item]) -> None:
    """Let the tests of one file come after all others of a folder."""
    order = iter(sorted(mine, key=lambda item: item.path.name == name))
    items[:] = [next(order) if item in mine else item for item in items]


def mark(items: list[pytest.Item], folder: Path) -> list[pytest.Item]:
    """Mark the tests in a folder as those of real engines; returns them."""
    mine = [item for item in items if item.path.is_relative_to(folder)]
    for item in mine:
        item.add_marker(pytest.mark.engine)
        item.add_marker(pytest.mark.timeout(300))
    return mine


@dataclass(frozen=True)
class Asked:
    """Questions and what one plain engine answers."""

    questions: tuple[Question, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Reference:
    """Everything the reference engine was asked, by the test that wants it."""

    varied: Asked
    long: Asked


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Answers of one vLLM engine, which has ended."""
    return the_reference()


@cache
def the_reference() -> Reference:
    """Asked once, for every folder of tests that compares with it."""
    varied = [Question(prompt(n, i), 24) for i, n in enumerate(varied_lengths())]
    long = [Question(prompt(300 + 40 * i, 100 + i), 32) for i in range(8)]
    found = answers([*varied, *long])
    cut = len(varied)
    return Reference(
        Asked(tuple(varied), tuple(found[:cut])), Asked(tuple(long), tuple(found[cut:]))
    )


def corruptible(chosen: KvTransferSettings) -> Handoff:
    """vLLM's connector, with faults on demand."""
    return CorruptibleHandoff(chosen.abort_timeout_s, chosen.ucx_tls)


@pytest.fixture(scope="package")
def cluster(reference: Reference) -> Iterator[ClusterOfTwo]:
    """Both engines."""
    with started(Setup(PULL, SETTINGS, corruptible)) as cluster:
        yield cluster


@contextmanager
def started(setup: Setup) -> Iterator[ClusterOfTwo]:
    """Two engines, of which nothing may be left at the end."""
    cluster = ClusterOfTwo(setup)
    yield cluster
    cluster.stop()
    assert cluster.leftovers() == []


@pytest_asyncio.fixture
async def pair(cluster: ClusterOfTwo) -> AsyncIterator[Pair]:
    """A router's links; no leg may be left at the end."""
    async with Pair(cluster) as pair:
        yield pair
        await pair.prefill.until_idle()
        await pair.decode.until_idle()
