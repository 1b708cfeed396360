"""The worker's gRPC service on loopback, over a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

import engine.link as link_under_test
import engine.service as under_test
from baton.errors import Reason, StartupError, StartupFault
from baton.wire import worker_pb2 as wire
from engine.service import WorkerServer
from tests.fakes.engine import GARBAGE, last, token
from tests.fakes.worker import House, info, prefill, solo
from tests.wire.served import Router, Served, until

MIB = 1024 * 1024
KV = {"blocks": [1]}


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.start()
    yield served
    await served.stop()
    assert served.worker.legs == 0
    assert served.worker.links == 0


async def test_a_request_goes_down_and_frames_come_up(served: Served) -> None:
    router = await served.link()
    await router.send(submit=solo("a", payload=b"request"))
    await served.until(legs=1)
    assert served.engine.added[0].payload == (b"request",)
    served.engine.emit(token("a", 1))
    served.engine.emit(last("a", 2))
    frames = [await router.news(), await router.news()]
    assert [list(f.outputs) for f in frames] == [[b"a=1"], [b"a=2"]]
    assert frames[0].sequence < frames[1].sequence


async def test_what_is_resumed_goes_down(served: Served) -> None:
    router = await served.link()
    submit = solo("a", payload=b"request")
    submit.resumed.extend((7, 2**32 - 1))
    await router.send(submit=submit)
    await served.until(legs=1)
    assert served.engine.added[0].resumed == (7, 2**32 - 1)


async def test_a_prefill_leg_hands_over(served: Served) -> None:
    router = await served.link()
    await router.send(submit=prefill("a.0.p"))
    await served.until(legs=1)
    served.engine.emit(last("a.0.p", kv_params=KV))
    (done,) = (await router.news()).prefilled
    assert (done.leg_id, done.handed) == ("a.0.p", b'{"blocks": [1]}')


async def test_an_idle_link_has_a_heartbeat(served: Served) -> None:
    router = await served.link()
    frames = [await router.call.read() for _ in range(3)]
    assert [f.sequence for f in frames] == [1, 2, 3]
    assert all(f.HasField("load") for f in frames)


async def test_a_stranger_is_refused_with_both_digests(served: Served) -> None:
    router = await served.link(digest="another")
    assert await router.code() is grpc.StatusCode.FAILED_PRECONDITION
    details = await router.call.details()
    assert "another" in details
    assert "digest" in details


async def test_a_link_begins_with_a_hello(served: Served) -> None:
    router = Router(served.stub.Link())
    await router.send(submit=solo("a"))
    assert await router.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert served.engine.added == []


async def test_a_link_that_says_nothing_is_refused(served: Served) -> None:
    call = served.stub.Link()
    await call.done_writing()
    assert await Router(call).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_empty_message_and_a_second_hello_are_ignored(served: Served) -> None:
    router = await served.link()
    await router.send()
    await router.send(hello=wire.Hello(router_id="again", config_digest="another"))
    await router.send(submit=solo("a"))
    await served.until(legs=1)
    await router.send(abort=wire.Abort(leg_ids=["a"]))
    await served.until(legs=0)


async def test_an_abort_never_overtakes_its_submit(served: Served) -> None:
    router = await served.link()
    for number in range(50):
        await router.send(submit=solo(f"l{number}"))
        await router.send(abort=wire.Abort(leg_ids=[f"l{number}"]))
    await until(lambda: len(served.engine.aborted) == 50)
    assert served.worker.legs == 0


async def test_messages_that_come_as_one_are_heard_in_their_order(served: Served) -> None:
    router = await served.link()
    submits = [wire.RouterMessage(submit=solo(leg, payload=leg.encode())) for leg in "abc"]
    abort = wire.RouterMessage(abort=wire.Abort(leg_ids=["b"]))
    await router.send(batch=wire.Batch(messages=[*submits, abort]))
    await until(lambda: served.engine.aborted == ["b"])
    assert [one.payload for one in served.engine.added] == [(b"a",), (b"b",), (b"c",)]
    await router.send(abort=wire.Abort(leg_ids=["a", "c"]))
    await served.until(legs=0)


@pytest.mark.parametrize("leave", ["cancel", "done_writing"])
async def test_the_end_of_a_link_aborts_its_legs(served: Served, leave: str) -> None:
    router, other = await served.link("r1"), await served.link("r2")
    await router.send(submit=solo("a"))
    await other.send(submit=solo("b"))
    await served.until(legs=2)
    result = getattr(router.call, leave)()
    if leave == "done_writing":
        await result
    await served.until(legs=1, links=1)
    assert served.engine.aborted == ["a"]


async def test_two_routers_hear_only_their_own(served: Served) -> None:
    one, two = await served.link("r1"), await served.link("r2")
    await one.send(submit=solo("a"))
    await two.send(submit=solo("b"))
    await served.until(legs=2)
    served.engine.emit(last("a", 1), last("b", 2))
    assert list((await one.news()).outputs) == [b"a=1"]
    assert list((await two.news()).outputs) == [b"b=2"]


async def test_garbage_is_refused_and_the_link_goes_on(served: Served) -> None:
    router = await served.link()
    await router.send(submit=solo("a", payload=GARBAGE))
    (ended,) = (await router.news()).ended
    assert (ended.leg_id, ended.reason) == ("a", Reason.INVALID_REQUEST.value)
    await router.send(submit=solo("b"))
    await served.until(legs=1)


async def test_bytes_that_are_no_message_end_that_link_alone(served: Served) -> None:
    other = await served.link()
    raw = served.channel.stream_stream("/baton.worker.v1.Worker/Link")()
    await raw.write(b"\xff\xff\xff")
    async with asyncio.timeout(5):
        assert await raw.code() is not grpc.StatusCode.OK
    await other.send(submit=solo("a"))
    await served.until(legs=1)


async def test_a_large_request_arrives(served: Served) -> None:
    router = await served.link()
    payload = bytes(10 * MIB)
    await router.send(submit=solo("a", payload=payload))
    await served.until(legs=1)
    assert served.engine.added[0].payload == (payload,)


async def test_a_request_beyond_the_bound_ends_that_link_alone(served: Served) -> None:
    router, other = await served.link("r1"), await served.link("r2")
    await router.send(submit=solo("a", payload=bytes(under_test.MESSAGE_BYTES_MAX + 1)))
    assert await router.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await other.send(submit=solo("b"))
    await served.until(legs=1)


async def test_a_router_that_never_reads_is_cut(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_under_test, "FRAMES_MAX", 20)
    monkeypatch.setattr(under_test, "STALL_S", 0.2)
    router = await served.link()
    other = await served.link("other")
    await router.send(submit=solo("a"))
    await served.until(legs=1)
    monkeypatch.setattr(served.engine, "encode", lambda outputs: [bytes(MIB)])
    for value in range(60):
        served.engine.emit(token("a", value))
        await asyncio.sleep(0)
    await served.until(legs=0, links=1)
    assert served.engine.aborted == ["a"]
    assert await router.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(await other.call.read(), wire.StepFrame)


async def test_a_dead_engine_is_told_once_per_leg(served: Served) -> None:
    router = await served.link()
    for leg in ("a", "b"):
        await router.send(submit=solo(leg))
    await served.until(legs=2)
    served.engine.die()
    ended = [e for _ in range(2) for e in (await router.news()).ended]
    assert [e.leg_id for e in ended] == ["a", "b"]
    assert {e.reason for e in ended} == {Reason.WORKER_LOST.value}


async def test_describe_says_what_the_worker_is(served: Served) -> None:
    described = await served.stub.Describe(wire.DescribeRequest())
    expected = info("digest")
    for field in wire.WorkerDescription.DESCRIPTOR.fields:
        assert getattr(described, field.name) == getattr(expected, field.name)


async def test_report_counts(served: Served) -> None:
    router = await served.link()
    for leg in ("a", "b", "c"):
        await router.send(submit=solo(leg))
    await router.send(submit=solo("d", payload=GARBAGE))
    await served.until(legs=3)
    served.engine.emit(last("a"), token("b"))
    await router.news()
    await router.send(abort=wire.Abort(leg_ids=["c"]))
    await served.until(legs=1)
    report = await served.stub.Report(wire.ReportRequest())
    counts = (report.submitted, report.refused, report.finished, report.aborted, report.failed)
    assert counts == (3, 1, 1, 1, 0)
    assert (report.links, report.legs, report.load.running) == (1, 1, 1)
    assert report.uptime_s > 0


async def test_a_drain_tells_its_progress(served: Served) -> None:
    router = await served.link()
    await router.send(submit=solo("a"))
    await served.until(legs=1)
    drain = served.stub.Drain(wire.DrainRequest())
    first = await drain.read()
    assert (first.legs_left, first.done) == (1, False)
    await router.send(submit=solo("b"))
    (ended,) = (await router.news()).ended
    assert (ended.leg_id, ended.reason) == ("b", Reason.DRAINING.value)
    served.engine.emit(last("a"))
    final = await drain.read()
    assert (final.legs_left, final.done) == (0, True)


async def test_a_drain_with_a_limit_cuts_off(served: Served) -> None:
    router = await served.link()
    await router.send(submit=solo("a"))
    await served.until(legs=1)
    progress = [p async for p in served.stub.Drain(wire.DrainRequest(timeout_s=0.05))]
    assert (progress[-1].legs_left, progress[-1].done) == (0, True)
    (ended,) = (await router.news()).ended
    assert ended.reason == Reason.DRAINING.value


async def test_health_is_serving(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_taken_port_is_a_startup_error(served: Served) -> None:
    second = WorkerServer(House().worker)
    with pytest.raises(StartupError) as caught:
        second.bind("127.0.0.1", served.port)
    assert caught.value.fault is StartupFault.PORT_TAKEN
    assert str(served.port) in caught.value.message
    await second.stop(0)
