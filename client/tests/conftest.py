"""A fake cluster and a client of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from baton_client import Client, Retries
from baton_client.testing import FakeBaton


@pytest.fixture
def fake() -> Iterator[FakeBaton]:
    with FakeBaton() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeBaton) -> Iterator[Client]:
    with Client(fake.address, retries=Retries(backoff_s=0.001), timeout_s=20) as client:
        yield client
