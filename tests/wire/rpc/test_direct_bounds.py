"""Direct streams that end before their answers do, and calls that bring no grant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from baton_client import AsyncClient, DeadlineExceededError

import engine.direct as streams
from tests.wire.http.support import until
from tests.wire.rpc.playing import House, playing

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with playing() as house:
        for one in house.workers:
            one.engine.pace_s = 0.01
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(house: House) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(house.address, direct=True) as client:
        yield client


async def test_an_answer_cut_short_is_booked_with_what_it_had(
    house: House, sdk: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TOLD_EVERY_S", 0.0)
    tokens = house.output_tokens()
    async with sdk.stream("Hi", max_tokens=900, return_token_ids=True) as stream:
        while len(stream.so_far.choices[0].token_ids if stream.so_far.choices else ()) < 10:
            await anext(stream)
    await until(lambda: not house.heart.inflight)
    # The last ones may still be on their way to the router.
    assert house.output_tokens() > tokens + 2


async def test_a_deadline_is_told_as_over_the_router(house: House, sdk: AsyncClient) -> None:
    before = dict(house.heart.status()["ended"])
    with pytest.raises(DeadlineExceededError):
        await sdk.generate("Hi", max_tokens=900, timeout_s=1)
    await until(lambda: not house.heart.inflight)
    ended = house.heart.status()["ended"]
    assert ended["deadline_exceeded"] == before.get("deadline_exceeded", 0) + 1
    assert ended.get("cancelled", 0) == before.get("cancelled", 0)


async def test_one_who_shows_no_grant_keeps_no_place(house: House) -> None:
    async with grpc.aio.insecure_channel(house.workers[0].info.direct_address) as channel:
        call = channel.stream_stream("/baton.v1.Direct/Stream")(timeout=20)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await call.details() == "The message did not come."
