"""Who calls and how long they wait, and what becomes of calls whose client has gone."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from baton.settings.access import AccessSettings
from baton.settings.model import Settings
from router.access import Access
from router.policy.tenants import Priority
from router.rpc import Place, serve
from tests.wire.http.support import until
from tests.wire.rpc.support import House, asked, generate, refused

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


async def test_metadata_says_who_calls(house: House):
    metadata = [
        ("x-baton-tenant", "acme"),
        ("x-baton-priority", "normal"),
        ("traceparent", PARENT),
    ]
    async for _ in house.stub.Generate(asked(), metadata=metadata, timeout=30):
        pass
    caller = house.heart.requests[0].caller
    assert (caller.tenant, caller.priority) == ("acme", Priority.NORMAL)
    assert caller.trace.traceparent == PARENT
    assert 25 < caller.timeout_s < 31
    assert {one.tenant for one in house.heart.callers} == {"acme"}


@pytest.mark.parametrize(
    ("metadata", "field", "found"),
    [
        ("high", 0, Priority.HIGH),
        ("high", 1, Priority.LOW),
        ("normal", 3, Priority.NORMAL),
        ("low", 2, Priority.LOW),
    ],
)
async def test_a_message_can_only_lower_the_priority(house: House, metadata, field, found):
    call = house.stub.Generate(
        asked(priority=field), metadata=[("x-baton-priority", metadata)], timeout=5
    )
    async for _ in call:
        pass
    assert house.heart.requests[0].caller.priority is found


async def test_without_metadata_or_deadline(house: House):
    async for _ in house.stub.Generate(asked()):
        pass
    caller = house.heart.requests[0].caller
    assert (caller.tenant, caller.timeout_s, caller.trace) == ("default", None, None)


async def test_a_priority_that_is_none(house: House):
    found = await refused(house.stub.Generate(asked(), metadata=[("x-baton-priority", "top")]))
    assert (found.code, found.param) == (grpc.StatusCode.INVALID_ARGUMENT, "x-baton-priority")


@pytest.mark.parametrize("n", [1, 3])
async def test_a_cancelled_call_frees_the_engines(house: House, n: int):
    script = house.heart.script
    script.endless, script.delay_s = True, 0.01
    sampling = {"n": n, "temperature": 1.0, "max_tokens": 2000}
    call = house.stub.Generate(asked(sampling=sampling))
    await call.read()
    assert len(house.heart.live) == n
    call.cancel()
    await until(lambda: not house.heart.live)
    assert len(house.heart.aborted) == n


async def test_a_call_that_is_cancelled_before_the_first_token(house: House):
    house.heart.script.hang = True
    call = house.stub.Generate(asked())
    reading = asyncio.gather(call.read())
    await until(lambda: house.heart.live)
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: not house.heart.live)
    assert len(house.heart.aborted) == 1


async def test_the_deadline_of_a_call_frees_the_engines(house: House):
    house.heart.script.hang = True
    found = await refused(house.stub.Generate(asked(), timeout=0.4))
    assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: not house.heart.live)


async def test_a_message_that_comes_late_leaves_less_of_the_deadline(house: House):
    call = house.channel.stream_stream("/baton.v1.Baton/Generate")(timeout=20)
    await until(lambda: house.heart.callers)
    await asyncio.sleep(0.5)
    await call.write(asked().SerializeToString())
    await call.done_writing()
    async for _ in call:
        pass
    assert house.heart.requests[0].caller.timeout_s < 19.7


async def test_a_client_whose_connection_breaks(house: House):
    script = house.heart.script
    script.endless, script.delay_s = True, 0.01
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.server.port}", options) as channel:
        method = channel.unary_stream("/baton.v1.Baton/Generate")
        call = method(asked(sampling={"max_tokens": 2000}).SerializeToString())
        await call.read()
    await until(lambda: not house.heart.live)


async def test_a_slow_reader_holds_one_merged_output(house: House):
    house.heart.script.endless = True
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1024),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.server.port}", options) as channel:
        method = channel.unary_stream("/baton.v1.Baton/Generate")
        call = method(
            asked(sampling={"max_tokens": 1900}, return_token_ids=True).SerializeToString()
        )
        await call.read()
        await until(lambda: not house.heart.live, timeout_s=10)
        # The engine has ended; what was not read waits in one collector, not in a queue.
        assert not house.front.unfinished
        call.cancel()


async def test_a_wrong_key_is_refused_unread(house: House, caplog):
    caplog.set_level("INFO", logger="router.rpc_calls")
    server = await serve(
        house.requests,
        house.pages,
        Settings().router,
        Place("127.0.0.1", 0),
        Access(AccessSettings(), ["right"]),
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            method = channel.unary_stream("/baton.v1.Baton/Generate")
            raw = asked().SerializeToString()
            found = await refused(method(raw, metadata=[("authorization", "Bearer wrong")]))
            assert found.code is grpc.StatusCode.UNAUTHENTICATED
            assert not house.heart.callers
            assert refusals(caplog) == ["unauthenticated"]
            reflection = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )
            assert (await refused(reflection())).code is grpc.StatusCode.UNIMPLEMENTED
            async for _ in method(raw, metadata=[("authorization", "Bearer right")]):
                pass
    finally:
        await server.stop(0)
    assert await generate(house)


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why calls were refused, of those whose log line says from where."""
    told = [one for one in caplog.records if one.getMessage() == "call refused"]
    return [one.reason for one in told if "127.0.0.1" in one.client]
