"""Refusals over gRPC, and requests that fail later: every end has its code, reason and advice."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from baton_client.v1 import service_pb2 as pb
from vllm.v1.engine import FinishReason

from baton.errors import RULES, BatonError, Reason
from tests.wire.rpc.support import BODY_MIB, TALK, House, asked, generate, refused, rest, talk

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]
Code = grpc.StatusCode
GENERATE = "/baton.v1.Baton/Generate"


@pytest.mark.parametrize("where", ["refuse_admit", "refuse_submit"])
@pytest.mark.parametrize("reason", list(Reason))
async def test_each_reason_has_its_status(house: House, where: str, reason: Reason):
    setattr(house.heart.script, where, BatonError(reason, "not now", retry_after_s=1.25))
    found = await refused(house.stub.Generate(asked()))
    assert (found.reason, found.message, found.retry_s) == (reason.value, "not now", 1.25)
    assert found.code.name == RULES[reason].grpc_status


async def test_a_full_router_does_not_read_the_message(house: House):
    house.heart.script.refuse_admit = BatonError(Reason.QUEUE_FULL, "full")
    call = house.channel.stream_stream(GENERATE)(timeout=5)
    # Nothing was sent yet.
    assert (await refused(call)).reason == "queue_full"


@pytest.mark.parametrize("n", [1, 3])
async def test_failure_under_way(house: House, n: int):
    script = house.heart.script
    script.fail_with, script.fail_after = BatonError(Reason.WORKER_LOST, "gone"), 4
    call = house.stub.Generate(asked(sampling={"n": n, "temperature": 1.0}))
    assert (await call.read()).deltas
    found = await refused(rest(call))
    assert (found.code, found.reason) == (Code.UNAVAILABLE, "worker_lost")


async def test_an_engine_that_gives_up(house: House):
    house.heart.script.finish = FinishReason.ABORT
    found = await refused(house.stub.Generate(asked()))
    assert (found.code, found.reason) == (Code.INTERNAL, "engine_failed")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": {"temperature": -1.0}}, "temperature"),
        ({"sampling": {"temperature": float("nan")}}, "temperature"),
        ({"sampling": {"top_p": 7.0}}, None),
        ({"sampling": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling": {"n": 0}}, None),
        ({"sampling": {"stop": [""]}}, None),
        ({"sampling": {"logprobs": 4_000_000_000}}, None),
        ({"sampling": {"stop_token_ids": [4_000_000_000]}}, None),
        ({"sampling": {"json_schema": "{"}}, None),
        ({"sampling": {"json_schema": ""}}, None),
        ({"sampling": {"regex": "("}}, None),
        ({"sampling": {"choices": pb.Choices()}}, None),
        ({"prompt": ""}, "prompt"),
        ({"prompt": pb.Prompt()}, "prompt"),
        ({"prompt": pb.Prompt(token_ids=pb.TokenIds())}, "prompt.token_ids"),
        ({"prompt": pb.Prompt(token_ids=pb.TokenIds(ids=[4_000_000_000]))}, None),
        ({"prompt": pb.Prompt(conversation=pb.Conversation())}, "prompt.conversation"),
        (
            {"prompt": pb.Prompt(conversation=pb.Conversation(messages=TALK * 8193))},
            "prompt.conversation",
        ),
        ({"cache_salt": "x" * 2000}, "cache_salt"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "a\nb"}, "request_id"),
        ({"priority": 9}, "priority"),
    ],
    ids=lambda value: str(value)[:40].replace("\n", " "),
)
async def test_nonsense_is_the_callers(house: House, fields, param):
    found = await refused(house.stub.Generate(asked(**fields)))
    assert (found.code, found.reason) == (Code.INVALID_ARGUMENT, "invalid_request")
    assert found.message
    assert param is None or found.param == param


@pytest.mark.parametrize("prompt", ["word " * 9000, "x" * 900_000])
async def test_a_prompt_that_is_too_long(house: House, prompt: str):
    found = await refused(house.stub.Generate(asked(prompt)))
    assert (found.code, found.reason) == (Code.INVALID_ARGUMENT, "prompt_too_long")


async def test_an_unknown_model(house: House):
    for call in (
        house.stub.Generate(asked(model="nobody")),
        house.stub.CountTokens(pb.CountTokensRequest(model="nobody", prompt=talk())),
        house.stub.Embed(pb.EmbedRequest(model="nobody")),
    ):
        found = await refused(call)
        assert (found.code, found.reason) == (Code.NOT_FOUND, "model_not_found")
        assert found.param == "model"


async def test_the_model_does_not_embed(house: House):
    found = await refused(house.stub.Embed(pb.EmbedRequest(texts=["a"])))
    assert (found.code, found.reason) == (Code.UNIMPLEMENTED, "unsupported")


async def test_an_unknown_story(house: House):
    found = await refused(house.stub.GetStory(pb.GetStoryRequest(request_id="nobody")))
    assert (found.code, found.reason) == (Code.NOT_FOUND, "request_unknown")
    found = await refused(house.stub.GetStory(pb.GetStoryRequest()))
    assert (found.code, found.param) == (Code.INVALID_ARGUMENT, "request_id")


async def test_a_name_is_that_of_one_request(house: House):
    house.heart.script.hang = True
    first = house.stub.Generate(asked(request_id="mine"))
    reading = asyncio.gather(first.read())
    async with asyncio.timeout(5):
        while not house.heart.live:  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.01)
    found = await refused(house.stub.Generate(asked(request_id="mine")))
    assert (found.code, found.reason) == (Code.ALREADY_EXISTS, "duplicate_id")
    other = [("x-baton-tenant", "other")]
    elses = house.stub.Generate(asked(request_id="mine"), metadata=other)
    both = asyncio.gather(reading, elses.read())
    async with asyncio.timeout(5):
        while len(house.heart.live) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    elses.cancel()
    first.cancel()
    await asyncio.gather(both, return_exceptions=True)
    async with asyncio.timeout(5):
        while house.heart.live:  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.01)
    house.heart.script.hang = False
    assert await generate(house, request_id="mine")


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\x0a\x05abc"])
async def test_a_message_that_is_none(house: House, raw: bytes):
    found = await refused(house.channel.unary_stream(GENERATE)(raw))
    assert (found.code, found.reason) == (Code.INVALID_ARGUMENT, "invalid_request")


async def test_no_message_at_all(house: House):
    call = house.channel.stream_stream(GENERATE)()
    await call.done_writing()
    assert (await refused(call)).reason == "invalid_request"


async def test_a_message_that_is_too_large(house: House):
    large = asked("x" * (BODY_MIB * 2**20))
    found = await refused(house.stub.Generate(large))
    assert (found.code, found.reason) == (Code.RESOURCE_EXHAUSTED, "body_too_large")
    larger = asked("x" * (3 * BODY_MIB * 2**20))
    # Not even read: gRPC's own answer.
    assert (await refused(house.stub.Generate(larger))).code is Code.RESOURCE_EXHAUSTED
    assert await generate(house)


async def test_metadata_that_is_too_large(house: House):
    call = house.stub.Generate(asked(), metadata=[("x-large", "x" * 20_000)])
    assert (await refused(call)).code is Code.RESOURCE_EXHAUSTED
    assert await generate(house)


async def test_compression_is_refused(house: House):
    call = house.stub.Generate(asked("x" * 5000), compression=grpc.Compression.Gzip)
    assert (await refused(call)).code is Code.UNIMPLEMENTED


async def test_an_unknown_method(house: House):
    call = house.channel.unary_unary("/baton.v1.Baton/Fly")(b"")
    assert (await refused(call)).code is Code.UNIMPLEMENTED


async def test_a_long_message_of_an_error_still_arrives(house: House):
    error = BatonError(Reason.INVALID_REQUEST, "\N{SNOWMAN}" * 10_000, param="\udcff")
    house.heart.script.refuse_admit = error
    found = await refused(house.stub.Generate(asked()))
    assert found.reason == "invalid_request"
    assert set(found.message) == {"\N{SNOWMAN}"}


async def test_a_fault_of_the_router_is_told_without_its_words(house: House, monkeypatch):
    def break_down(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(house.front, "check_admission", break_down)
    found = await refused(house.stub.Generate(asked()))
    assert (found.code, found.reason) == (Code.INTERNAL, "internal")
    assert "secret" not in found.message


async def test_more_calls_than_a_router_takes(house: House):
    house.heart.script.hang = True
    bound = house.server._calls._bounds.calls
    idle = [house.channel.stream_stream(GENERATE)() for _ in range(bound)]
    try:
        for call in idle:
            await call.wait_for_connection()
        async with asyncio.timeout(10):
            while house.server.running < bound:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{house.server.port}", [("grpc.use_local_subchannel_pool", 1)]
        ) as other:
            call = other.unary_stream(GENERATE)(asked().SerializeToString())
            found = await refused(call)
        assert (found.code, found.reason) == (Code.RESOURCE_EXHAUSTED, "queue_full")
        assert found.retry_s == 1.0
    finally:
        for call in idle:
            call.cancel()
