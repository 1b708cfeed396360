"""Direct streams through a whole router and real workers: same answers, same ends, nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from baton_client import (
    AsyncClient,
    RequestCancelledError,
    Retries,
    TlsOptions,
    UnavailableError,
)
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

import engine.direct as streams
from baton.settings.tls import TlsSettings
from baton.wire import worker_pb2 as worker
from baton.wire import worker_pb2_grpc as worker_grpc
from tests.certificates import Authority
from tests.wire.http.support import until
from tests.wire.rpc.playing import House, Played, playing
from tests.wire.rpc.support import asked, refused, rest

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="module")]
TOKENS = 40
GREEDY: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "return_token_ids": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played() -> AsyncIterator[House]:
    async with playing() as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(played: House) -> AsyncIterator[House]:
    """Two workers that live; at the end nothing may be left of any request."""
    for one in played.workers:
        one.engine.pace_s = 0.0
        one.engine.told.clear()
    yield played
    await until(lambda: not played.heart.inflight and not played.server.running)
    await until(lambda: not any(one.worker.legs for one in played.workers))
    assert not played.front.unfinished
    for one in played.workers:
        assert not one.worker.direct._streams
        assert not one.engine.live
        assert not one.worker.direct.texts._processor.request_states


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(house: House) -> AsyncIterator[AsyncClient]:
    options = {"retries": Retries(backoff_s=0.01), "timeout_s": 20}
    async with AsyncClient(house.address, direct=True, **options) as client:
        yield client


async def replace(house: House, gone: Played) -> None:
    """A worker of another name for one that was killed."""
    place = house.workers.index(gone)
    name = f"{gone.name}x"
    house.workers[place] = await Played.start(name, gone.engine.words, house.front)
    await house.link()


def slow(house: House) -> None:
    for one in house.workers:
        one.engine.pace_s = 0.01


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"stop": ["lazy dog"]},
        {"stop": ["zy", "q"], "max_tokens": 7},
        {"max_tokens": 1},
        {"logprobs": 0},
    ],
)
async def test_an_answer_is_that_of_the_router(
    house: House, sdk: AsyncClient, chosen: dict[str, Any]
) -> None:
    options = {**GREEDY, **chosen}
    routed = await sdk.generate("Hi", direct=False, **options)
    for one in house.workers:
        one.engine.told.clear()
    direct = await sdk.generate("Hi", **options)
    assert direct.choices == routed.choices
    assert direct.usage == routed.usage
    assert direct.timing is not None
    assert direct.attempts == 1
    frames = [tokens for one in house.workers for tokens in one.engine.told]
    assert len(frames) <= 2, "the router is off the path of the tokens"
    assert "Finished" in await sdk.story(direct.request_id)


async def test_the_router_books_its_tokens(house: House, sdk: AsyncClient) -> None:
    ended, tokens = house.heart.status()["ended"].get("finished", 0), house.output_tokens()
    answer = await sdk.generate("Hi", **GREEDY)
    assert answer.usage.completion_tokens == TOKENS
    assert house.heart.status()["ended"]["finished"] == ended + 1
    assert house.output_tokens() == tokens + TOKENS


async def test_tokens_that_were_brought_are_not_booked_again(house: House) -> None:
    words, tokens = house.workers[0].engine.words, house.output_tokens()
    request = asked(sampling={"max_tokens": 10, "temperature": 0}, resume_token_ids=words[:7])
    async with grpc.aio.insecure_channel(house.address) as channel:
        messages = await rest(pb_grpc.BatonStub(channel).Generate(request))
    assert messages[0].resumed_tokens == 7
    assert messages[-1].usage.completion_tokens == 3
    assert house.output_tokens() == tokens + 3


@pytest.mark.parametrize("how", ["engine", "worker", "connection"])
async def test_a_broken_stream_goes_on_with_the_same_text(
    house: House, sdk: AsyncClient, how: str
) -> None:
    whole = await sdk.generate("Hi", direct=False, **GREEDY)
    slow(house)
    async with sdk.stream("Hi", **GREEDY) as stream:
        async for _ in stream:
            if len(stream.so_far.choices[0].token_ids) >= 10 and stream.so_far.attempts == 1:
                break
        gone = house.busy()
        if how == "engine":
            gone.engine.die()
        elif how == "worker":
            await gone.stop()
        else:
            # Its other listener stays, as when a firewall forgets a connection.
            await gone.direct.stop(0)
        answer = await stream.result()
    await gone.stop()
    await replace(house, gone)
    assert answer.choices == whole.choices
    assert answer.usage == whole.usage
    assert answer.attempts == 2


async def test_a_held_back_text_is_not_lost_when_a_stream_breaks(
    house: House, sdk: AsyncClient
) -> None:
    options = {**GREEDY, "stop": ["never to be seen in it"]}
    whole = await sdk.generate("Hi", direct=False, **options)
    slow(house)
    async with sdk.stream("Hi", **options) as stream:
        while len(stream.so_far.choices[0].token_ids if stream.so_far.choices else ()) < 10:
            await anext(stream)
        gone = house.busy()
        await gone.stop()
        answer = await stream.result()
    await replace(house, gone)
    assert answer.choices == whole.choices


async def test_one_who_leaves_frees_both_ends(house: House, sdk: AsyncClient) -> None:
    slow(house)
    async with sdk.stream("Hi", max_tokens=900) as stream:
        await anext(stream)
        busy = house.busy()
    await until(lambda: not busy.worker.legs and not house.heart.inflight)
    assert busy.engine.aborted


async def test_a_call_left_at_the_worker_alone_ends_the_request(house: House) -> None:
    slow(house)
    async with grpc.aio.insecure_channel(house.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(asked(sampling={"max_tokens": 900}, direct=True))
        route = (await call.read()).route
        async with grpc.aio.insecure_channel(route.address) as direct:
            stream = pb_grpc.DirectStub(direct).Stream(pb.StreamRequest(grant=route.grant))
            await stream.read()
            stream.cancel()
            found = await refused(rest(call))
    assert (found.code, found.reason) == (grpc.StatusCode.CANCELLED, "cancelled")


async def test_a_grant_is_good_for_one_call_of_one_answer(house: House) -> None:
    slow(house)
    async with grpc.aio.insecure_channel(house.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(asked(sampling={"max_tokens": 30}, direct=True))
        first = await call.read()
        assert first.request_id
        assert not first.deltas
        assert len(first.route.grant) == 32
        async with grpc.aio.insecure_channel(first.route.address) as direct:
            stub = pb_grpc.DirectStub(direct)
            for guess in (b"", b"x" * 32, first.route.grant[:-1]):
                found = await refused(stub.Stream(pb.StreamRequest(grant=guess)))
                assert (found.code, found.reason) == (
                    grpc.StatusCode.NOT_FOUND,
                    "request_unknown",
                )
            mine = stub.Stream(pb.StreamRequest(grant=first.route.grant))
            await mine.read()
            second = await refused(stub.Stream(pb.StreamRequest(grant=first.route.grant)))
            assert second.code is grpc.StatusCode.NOT_FOUND
            big = await refused(stub.Stream(pb.StreamRequest(grant=b"x" * 1500)))
            assert big.reason == "body_too_large"
            more = await rest(mine)
            assert more[-1].deltas[0].finish_reason == pb.FINISH_REASON_LENGTH
        (last,) = await rest(call)
        assert last.usage.completion_tokens == 30
        assert last.HasField("timing")


async def test_nobody_comes_and_the_request_ends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TAKEN_WITHIN_S", 0.1)
    slow(house)
    async with grpc.aio.insecure_channel(house.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(asked(sampling={"max_tokens": 900}, direct=True))
        assert (await call.read()).HasField("route")
        found = await refused(rest(call))
    assert found.code is grpc.StatusCode.CANCELLED
    assert "nobody read it" in found.message


async def test_a_drain_waits_for_those_who_read(house: House, sdk: AsyncClient) -> None:
    slow(house)
    async with sdk.stream("Hi", **GREEDY) as stream:
        await anext(stream)
        gone = house.busy()
        draining = asyncio.ensure_future(gone.worker.drain(10))
        answer = await stream.result()
        assert answer.attempts == 1
    assert await draining == 0
    assert len(answer.choices[0].token_ids) == TOKENS
    await gone.stop()
    await replace(house, gone)


async def test_a_slow_reader_holds_nobody_up(house: House) -> None:
    async with grpc.aio.insecure_channel(house.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(asked(sampling={"max_tokens": 900}, direct=True))
        route = (await call.read()).route
        # The router's call ends as soon as the engine is through.
        (last,) = await rest(call)
        assert last.usage.completion_tokens == 900
        busy = house.busy()
        assert (busy.worker.legs, busy.worker.load().running) == (1, 0)
        async with grpc.aio.insecure_channel(route.address) as direct:
            stream = pb_grpc.DirectStub(direct).Stream(pb.StreamRequest(grant=route.grant))
            messages = await rest(stream)
    assert len(messages) == 1, "what waits is merged"
    assert messages[0].deltas[0].tokens == 900


@pytest.mark.parametrize(
    ("fields", "sampling", "reason", "param"),
    [
        ({"resume_token_ids": [2**31]}, {}, "invalid_request", None),
        ({"resume_token_ids": [5] * 64}, {}, "invalid_request", "resume_token_ids"),
        ({"resume_token_ids": [5]}, {"n": 2}, "unsupported", "sampling.n"),
        ({"resume_token_ids": [5]}, {"regex": "a+"}, "unsupported", None),
        ({"resume_token_ids": [5]}, {"seed": 1, "temperature": 1.0}, "unsupported", None),
    ],
)
async def test_what_cannot_be_resumed_is_refused(
    house: House, fields: dict[str, Any], sampling: dict[str, Any], reason: str, param: str | None
) -> None:
    async with grpc.aio.insecure_channel(house.address) as channel:
        stub = pb_grpc.BatonStub(channel)
        found = await refused(stub.Generate(asked(sampling=sampling, **fields)))
    assert (found.reason, found.param) == (reason, param)


async def test_without_retries_a_broken_stream_is_an_error(house: House) -> None:
    slow(house)
    async with AsyncClient(house.address, direct=True, retries=None) as sdk:
        stream = sdk.stream("Hi", **GREEDY)
        await anext(stream)
        await (gone := house.busy()).stop()
        with pytest.raises(UnavailableError):
            await stream.result()
    await replace(house, gone)


async def test_a_router_that_offers_none_brings_the_answer() -> None:
    async with playing(direct=False) as house, AsyncClient(house.address, direct=True) as sdk:
        answer = await sdk.generate("Hi", **GREEDY)
        assert answer.usage.completion_tokens == TOKENS
        assert not any(one.worker.direct._streams for one in house.workers)
        assert sum(len(tokens) for one in house.workers for tokens in one.engine.told) == TOKENS


async def test_a_closed_client_ends_its_streams(house: House) -> None:
    slow(house)
    sdk = AsyncClient(house.address, direct=True)
    stream = sdk.stream("Hi", max_tokens=900)
    await anext(stream)
    await sdk.close()
    with pytest.raises(RequestCancelledError):
        await stream.result()


async def test_workers_show_clients_the_routers_certificate(tmp_path: Path) -> None:
    own = Authority(tmp_path, "own")
    (cert, key), shown = own.issue("door", host="door.example"), own.issue("guest")
    tls = TlsSettings(cert_path=str(cert), key_path=str(key), client_ca_path=str(own.path))
    guest = TlsOptions(ca=own.path, cert=shown[0], key=shown[1])
    async with playing(tls) as house:
        async with AsyncClient(house.address, tls=guest, direct=True) as sdk:
            answer = await sdk.generate("Hi", **GREEDY)
            assert (answer.usage.completion_tokens, answer.attempts) == (TOKENS, 1)
        assert sum(len(frames) for one in house.workers for frames in one.engine.told) <= 2
        ca = own.path.read_bytes()
        for stranger in (
            grpc.aio.insecure_channel(house.workers[0].info.direct_address),
            grpc.aio.secure_channel(
                house.workers[0].info.direct_address,
                grpc.ssl_channel_credentials(ca),
                [("grpc.ssl_target_name_override", "door.example")],
            ),
        ):
            async with stranger as channel:
                call = pb_grpc.DirectStub(channel).Stream(pb.StreamRequest(grant=b"x" * 32))
                assert (await refused(call)).code is grpc.StatusCode.UNAVAILABLE


async def test_a_worker_answers_clients_nothing_else(house: House) -> None:
    async with grpc.aio.insecure_channel(house.workers[0].info.direct_address) as channel:
        found = await refused(worker_grpc.WorkerStub(channel).Describe(worker.DescribeRequest()))
        assert found.code is grpc.StatusCode.UNIMPLEMENTED
        found = await refused(pb_grpc.BatonStub(channel).Generate(asked()))
        assert found.code is grpc.StatusCode.UNIMPLEMENTED
