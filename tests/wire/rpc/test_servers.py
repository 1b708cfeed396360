"""Health, reflection, and servers that share a port, leave and follow each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from baton_client.v1 import service_pb2_grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.settings.model import Settings
from deploy.rpc import Rpc
from router.listen import bind
from router.rpc import NAME, Place, RpcServer, serve
from tests.wire.http.support import TEXT, until
from tests.wire.rpc.support import House, asked, generate, refused, rest, text_of, told

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
DRAINING = BatonError(Reason.DRAINING, "leaves")


@asynccontextmanager
async def another(house: House, port: int = 0) -> AsyncIterator[RpcServer]:
    place = Place("127.0.0.1", port)
    server = await serve(house.requests, house.pages, Settings().router, place)
    try:
        yield server
    finally:
        await server.stop(0)


def channel_to(server: RpcServer) -> grpc.aio.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options)


@pytest.mark.parametrize("service", ["", NAME])
async def test_health(house: House, service: str):
    health = health_pb2_grpc.HealthStub(house.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert (await health.Check(request)).status == SERVING
    house.ready.append(DRAINING)
    try:
        assert (await health.Check(request)).status == NOT_SERVING
    finally:
        house.ready.clear()
    assert (await health.Check(request)).status == SERVING
    listed = await health.List(health_pb2.HealthListRequest())
    assert listed.statuses[service].status == SERVING


async def test_health_of_a_stranger(house: House):
    health = health_pb2_grpc.HealthStub(house.channel)
    request = health_pb2.HealthCheckRequest(service="nobody")
    assert (await refused(health.Check(request))).code is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(request)
    assert (await watch.read()).status == UNKNOWN
    watch.cancel()


async def test_watchers_hear_of_changes_and_are_let_go(house: House):
    async with another(house) as server, channel_to(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        heard = [(await watch.read()).status]
        house.ready.append(DRAINING)
        try:
            heard.append((await watch.read()).status)
        finally:
            house.ready.clear()
        heard.append((await watch.read()).status)
        async with asyncio.timeout(5):
            await server.stop(30)
        heard += [one.status for one in await rest(watch)]
    assert heard == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]


async def test_a_client_without_stubs_finds_its_way(house: House):
    """As grpcurl does: asks the server what it offers, and streams."""
    found = await asyncio.to_thread(_reflected, house.server.port)
    services, texts = found
    assert set(services) == {
        NAME,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert "".join(texts) == TEXT
    assert len(texts) > 1


def _reflected(port: int) -> tuple[list[str], list[str]]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(known)
        method = pool.FindServiceByName(NAME).FindMethodByName("Generate")
        assert method.server_streaming
        assert not method.client_streaming
        request = message_factory.GetMessageClass(method.input_type)()
        request.prompt.text = "Hi"
        answer = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_stream(
            f"/{NAME}/Generate", type(request).SerializeToString, answer.FromString
        )
        texts = [d.text for message in call(request, timeout=10) for d in message.deltas]
        return list(known.get_services()), texts


async def test_a_server_that_leaves_lets_running_calls_end(house: House):
    house.heart.script.delay_s = 0.02
    async with another(house) as server, channel_to(server) as channel:
        stub = service_pb2_grpc.BatonStub(channel)
        call = stub.Generate(asked())
        first = await call.read()
        assert server.running == 1
        stopping = asyncio.ensure_future(server.stop(10))
        await asyncio.sleep(0.05)
        late = await refused(stub.Generate(asked(), wait_for_ready=False))
        assert late.code is grpc.StatusCode.UNAVAILABLE
        assert text_of([first, *await rest(call)]) == TEXT
        await stopping
        assert server.running == 0


async def test_a_call_that_does_not_end_is_cut_off(house: House):
    house.heart.script.hang = True
    async with another(house) as server, channel_to(server) as channel:
        call = service_pb2_grpc.BatonStub(channel).Generate(asked())
        reading = asyncio.gather(call.read(), return_exceptions=True)
        await until(lambda: house.heart.live)
        await server.stop(0.1)
        await until(lambda: not house.heart.live)
        await reading
        assert await call.code() is not grpc.StatusCode.OK


async def test_a_successor_shares_the_port(house: House):
    house.heart.script.delay_s = 0.02
    async with another(house) as old, channel_to(old) as channel:
        call = service_pb2_grpc.BatonStub(channel).Generate(asked())
        first = await call.read()
        async with another(house, old.port) as new:
            assert new.port == old.port
            leaving = asyncio.ensure_future(old.stop(10))
            await asyncio.sleep(0.05)
            async with channel_to(new) as other:
                messages = await told(service_pb2_grpc.BatonStub(other).Generate(asked()))
            assert text_of(messages) == text_of([first, *await rest(call)]) == TEXT
            await leaving


async def test_the_router_s_process_opens_and_leaves_it(house: House):
    house.heart.script.delay_s = 0.02
    rpc = Rpc(Settings.model_validate({"router": {"port": 0}}))
    await rpc.stop(1)
    assert (rpc.address, rpc.running) == (None, 0)
    rpc.prepare(house.app, house.front, house.pages)
    await rpc.open()
    async with grpc.aio.insecure_channel(rpc.address) as channel:
        call = service_pb2_grpc.BatonStub(channel).Generate(asked())
        first = await call.read()
        assert rpc.running == 1
        leaving = asyncio.ensure_future(rpc.stop(10))
        assert text_of([first, *await rest(call)]) == TEXT
        await leaving
    assert rpc.running == 0


async def test_leaving_can_be_cut_short(house: House):
    house.heart.script.hang = True
    async with another(house) as server, channel_to(server) as channel:
        call = service_pb2_grpc.BatonStub(channel).Generate(asked())
        reading = asyncio.ensure_future(refused(rest(call)))
        await until(lambda: house.heart.live)
        leaving = asyncio.ensure_future(server.stop(60))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await server.stop(0)
            await leaving
        found = await reading
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")


async def test_off_means_off(house: House):
    rpc = Rpc(Settings.model_validate({"router": {"grpc": False}}))
    rpc.prepare(house.app, house.front, house.pages)
    await rpc.open()
    assert rpc.address is None
    assert await generate(house)


async def test_a_port_that_is_taken(house: House):
    with bind("127.0.0.1", 0) as held:
        place = Place("127.0.0.1", held.getsockname()[1])
        with pytest.raises(StartupError) as caught:
            await serve(house.requests, house.pages, Settings().router, place)
    assert caught.value.fault is StartupFault.PORT_TAKEN
    assert "router.grpc_port" in caught.value.hint
    assert await generate(house)


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_service_of_a_very_long_name(house: House, method: str):
    call = getattr(health_pb2_grpc.HealthStub(house.channel), method)
    found = await refused(call(health_pb2.HealthCheckRequest(service="x" * 257), timeout=5))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_after_the_cut_is_told_that_the_router_drains(house: House):
    async with another(house) as server, channel_to(server) as channel:
        server._calls.cut()
        found = await refused(service_pb2_grpc.BatonStub(channel).Generate(asked()))
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")
        assert found.retry_s
