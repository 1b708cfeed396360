"""`baton top` before a router as it runs in a cluster."""

from __future__ import annotations

import asyncio

import pytest

from deploy import cli
from tests.wire.ui.cluster import Cluster

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]


async def test_one_frame(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (await cluster.ask()).json()["id"]
    # What was shown a moment ago is shown again.
    await asyncio.sleep(0.6)
    assert await asyncio.to_thread(cli.main, ["top", "--once", "--url", cluster.url]) == 0
    text = capsys.readouterr().out
    for words in ("demo · router-0-", "prefill-0", "decode-0", "nothing needs attention", asked):
        assert words in text


async def test_nobody_there(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = "http://127.0.0.1:9"
    assert await asyncio.to_thread(cli.main, ["top", "--url", nowhere]) == 1
    assert f"nothing answers at {nowhere}" in capsys.readouterr().err


async def test_without_the_key(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`VLLM_API_KEY` is what the page asks for."""
    await cluster.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_API_KEY", "open sesame")
        await cluster.start()
        command = ["top", "--once", "--url", cluster.url]
        assert await asyncio.to_thread(cli.main, command) == 0
        patch.setenv("VLLM_API_KEY", "wrong")
        assert await asyncio.to_thread(cli.main, command) == 1
    assert "That API key is not valid" in capsys.readouterr().err
    await cluster.stop()
    await cluster.start()
