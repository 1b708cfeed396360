"""A whole router behind the gRPC server, with fake workers: its split, stories, counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from baton_client.v1 import service_pb2 as rpc
from baton_client.v1 import service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

from baton.messages import Dispatch, Role
from baton.wire import worker_pb2 as pb
from router.heart import Heart
from router.metrics import RouterMetrics
from router.rpc import Place, RpcServer, serve
from router.rpc_requests import Requests
from router.split import Part
from tests.wire.fake_worker import FakeWorker
from tests.wire.fakes import encode
from tests.wire.http.support import until
from tests.wire.rpc.support import asked, refused, rest, told
from tests.wire.whole import whole_router

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="module")]
PROMPT = pb.LegTimes(queue_s=0.003, compute_s=0.02)
ANSWER = pb.LegTimes(room_s=0.001, fetch_s=0.03, queue_s=0.002, compute_s=0.008)
ENDLESS = "endless"


def answer(submit: pb.Submit) -> Iterable[pb.StepFrame]:
    """As a worker that pushes KV answers both legs; named so, a request gets no end."""
    if submit.kind == pb.LEG_PREFILL:
        yield pb.StepFrame(prefilled=[pb.Prefilled(leg_id=submit.leg_id, times=PROMPT)])
        return
    for index in range(4):
        first = [pb.Prefilled(leg_id=submit.leg_id, times=ANSWER)] if index == 0 else []
        last = FinishReason.LENGTH if index == 3 and ENDLESS not in submit.leg_id else None
        outputs = [EngineCoreOutput(submit.leg_id, [1000 + index], finish_reason=last)]
        yield pb.StepFrame(
            outputs=encode(EngineCoreOutputs(outputs=outputs)),
            prefilled=first,
            load=pb.Load(steps_s=0.004 * index),
        )


@dataclass
class House:
    """A router with its gRPC server, and fake workers."""

    heart: Heart
    prefill: FakeWorker
    decode: FakeWorker
    stub: service_pb2_grpc.BatonStub
    health: health_pb2_grpc.HealthStub
    metrics: RouterMetrics
    server: RpcServer

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"baton_{name}", labels) or 0.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    chosen = {
        "router": {"policy": "least_loaded", "disaggregate": "always", "worker_silence_s": 60},
        "admission": {"tenants": {"small": {"requests_per_minute": 1}}},
    }
    push = {"dispatch": Dispatch.CONCURRENT}
    async with (
        FakeWorker(answer, worker_id="p", role=Role.PREFILL, **push) as prefill,
        FakeWorker(answer, worker_id="d", role=Role.DECODE, **push) as decode,
        whole_router(chosen) as whole,
    ):
        # Long enough for what the workers say of themselves.
        prefill.step_s, decode.step_s = 0.025, 0.05
        requests, place = Requests(whole.front, whole.app.state), Place("127.0.0.1", 0)
        server = await serve(requests, whole.pages, whole.settings.router, place)
        await whole.introduce(prefill, decode)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = service_pb2_grpc.BatonStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            yield House(whole.heart, prefill, decode, stub, health, whole.metrics, server)
            await server.stop(0)


async def test_the_last_message_tells_where_the_time_went(house: House) -> None:
    messages = await told(house.stub.Generate(asked()))
    assert [m.HasField("timing") for m in messages] == [False] * (len(messages) - 1) + [True]
    timing = messages[-1].timing
    words = {"prefill_queue_s": 0.003, "prefill_compute_s": 0.02, "decode_queue_s": 0.002}
    words |= {"first_decode_step_s": 0.008, "exposed_transfer_s": 0.008}
    found = {name: getattr(timing, name) for name in words}
    assert found == pytest.approx(words, abs=1e-5)
    parts = [getattr(timing, f"{part.value}_s") for part in Part]
    assert sum(parts) == pytest.approx(timing.ttft_s)
    assert timing.ttft_s >= 0.05


async def test_an_answer_of_one_message_tells_it_too(house: House) -> None:
    house.decode.step_s, step_s = 0.0, house.decode.step_s
    try:
        *before, last = await told(house.stub.Generate(asked()))
    finally:
        house.decode.step_s = step_s
    assert before[-1].deltas
    assert last.HasField("usage")
    assert last.timing.ttft_s > 0


async def test_a_call_has_a_story_and_is_counted_as_over_http(house: House) -> None:
    before = house.value("ttft_part_seconds_count", part="delivery")
    written = house.value("tpot_part_seconds_count", part="write")
    await told(house.stub.Generate(asked(request_id="my-own")))
    story = await house.stub.GetStory(rpc.GetStoryRequest(request_id="my-own"))
    assert "my-own" in story.text
    found = await refused(house.stub.GetStory(rpc.GetStoryRequest(request_id="my-o")))
    assert found.reason == "request_unknown"
    assert "first token after" in story.text
    assert house.value("ttft_part_seconds_count", part="delivery") == before + 1
    assert house.value("tpot_part_seconds_count", part="write") == written + 1
    assert house.heart.status()["ended"]["finished"] >= 1


async def test_a_cancelled_call_frees_both_engines(house: House) -> None:
    call = house.stub.Generate(asked(request_id=ENDLESS))
    await call.read()
    call.cancel()
    await until(lambda: not house.heart.inflight and not house.server.running)
    await until(lambda: any(ENDLESS in leg for leg in house.decode.aborts))


async def test_a_call_past_its_deadline_frees_both_engines(house: House) -> None:
    name = f"{ENDLESS}-late"
    before = house.heart.status()["ended"].get("deadline_exceeded", 0)
    call = house.stub.Generate(asked(request_id=name), timeout=1.5)
    await call.read()
    found = await refused(rest(call))
    # The router's own end, which comes before that of gRPC and is booked as what it is.
    assert (found.code, found.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "deadline_exceeded",
    )
    await until(lambda: not house.heart.inflight and not house.server.running)
    await until(lambda: any(name in leg for leg in house.decode.aborts))
    assert house.heart.status()["ended"].get("deadline_exceeded") == before + 1


async def test_a_tenants_limit_is_told_with_the_time_to_wait(house: House) -> None:
    metadata = [("x-baton-tenant", "small")]
    await told(house.stub.Generate(asked(), metadata=metadata))
    found = await refused(house.stub.Generate(asked(), metadata=metadata))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "tenant_limit")
    assert found.retry_s >= 1


async def test_a_router_that_drains_is_not_serving(house: House) -> None:
    request = health_pb2.HealthCheckRequest()
    assert (await house.health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    house.heart.drain()
    assert (await house.health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    found = await refused(house.stub.Generate(asked()))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")
