"""One cluster without engines and one browser for all tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from baton.settings import process_environ
from tests.wire.ui.browser import Browser, Page
from tests.wire.ui.cluster import Cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if shutil.which("chromium") is None and "CI_RUN_MARK" not in process_environ():
        pytest.skip("chromium is not installed")
    async with Browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def page(cluster: Cluster, browser: Browser) -> AsyncIterator[Page]:
    """The page, live. At the end nothing may have gone wrong in it."""
    page = await browser.open(f"{cluster.url}/ui")
    await page.until("document.querySelector('#link').dataset.state === 'live'", 30)
    yield page
    await page.close()
    assert page.complaints == []
    outside = [url for url in page.asked if not url.startswith(f"{cluster.url}/ui")]
    assert outside == []
