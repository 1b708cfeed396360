"""The engine link: requests in, step outputs out, to any number of front-end processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import zmq.asyncio
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequestType, FinishReason

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from baton.prefix_keys import tenant_salt
from baton.spans import context_of
from router.engine_link import failure_of
from router.engine_links import EngineLinks
from router.policy.tenants import Priority
from router.tracing import Tracing
from tests.wire.fakes import END, FakeHeart, Script, encode
from tests.wire.front_end import LIMITS, FakeFrontEnd
from tests.wire.served import until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class House:
    """A heart that answers from a script, its links, and front ends that connect to them."""

    folder: Path
    context: zmq.asyncio.Context
    heart: FakeHeart
    links: EngineLinks
    lost: list[str]
    fronts: list[FakeFrontEnd] = field(default_factory=list)

    async def front(self, name: str = "f0", tenant: str = "default") -> FakeFrontEnd:
        front = FakeFrontEnd(self.context, self.folder, name)
        self.fronts.append(front)
        return await front.attached(self.links, tenant)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    heart, lost, context = FakeHeart(), [], zmq.asyncio.Context()
    links = heart.front = EngineLinks(heart, on_lost=lost.append)
    house = House(tmp_path, context, heart, links, lost)
    yield house
    links.close()
    for front in house.fronts:
        front.close()
    context.destroy(linger=0)
    assert not links.open
    await until(lambda: not heart.live)
    await heart.tasks.aclose()


async def test_a_request_is_answered_under_its_own_name(house: House) -> None:
    house.heart.script = Script(tokens=[5, 6, 7])
    front = await house.front()
    assert front.ready is not None
    assert front.ready.max_model_len == LIMITS.max_model_len_tokens
    await front.ask("cmpl-1-ab")
    found = await front.answer("cmpl-1-ab")
    assert [token for one in found for token in one.new_token_ids] == [5, 6, 7, END]
    assert found[-1].finish_reason is FinishReason.STOP
    (taken,) = house.heart.requests
    assert taken.request_id == "f0/cmpl-1-ab"
    assert (taken.tokens, taken.prompt_tokens, taken.max_tokens) == ([10, 11, 12], 3, 8)
    assert house.heart.cores[0].request_id == "cmpl-1-ab", "what workers get is what came"
    assert not house.links.open


async def test_front_ends_may_choose_the_same_names(house: House) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.01)
    one, two = await house.front("f0"), await house.front("f1")
    await one.ask("same", 3)
    await two.ask("same", 5)
    answers = await asyncio.gather(one.tokens("same"), two.tokens("same"))
    assert [len(answer) for answer in answers] == [3, 5]
    assert sorted(r.request_id for r in house.heart.requests) == ["f0/same", "f1/same"]


async def test_one_step_is_one_message_to_each_front_end(house: House) -> None:
    house.heart.script = Script(hang=True, tokens=[1])
    one, two, idle = [await house.front(f"f{n}") for n in range(3)]
    for front, name in ((one, "a"), (one, "b"), (two, "a")):
        await front.ask(name)
    await until(lambda: len(house.links.open) == 3)
    legs = {"l1": RequestId("f0/a"), "l2": RequestId("f0/b"), "l3": RequestId("f1/a")}
    outputs = [EngineCoreOutput(leg, [n]) for n, leg in enumerate([*legs, "a stranger's"])]
    assert house.links.deliver(encode(EngineCoreOutputs(outputs=outputs)), legs) == []
    said = [(o.request_id, o.new_token_ids) for o in (await one.step()).outputs]
    assert said == [("a", [0]), ("b", [1])]
    assert [(o.request_id, o.new_token_ids) for o in (await two.step()).outputs] == [("a", [2])]
    assert idle.silent()


async def test_what_was_sent_can_be_sent_again_elsewhere(house: House) -> None:
    house.heart.script = Script(hang=True, tokens=[1])
    front = await house.front()
    await front.ask("a")
    await until(lambda: len(house.links.open) == 1)
    one = RequestId("f0/a")
    count, legs = house.links.counter(one), {"leg": one}
    for tokens in ([4], [5, 6]):
        outputs = [EngineCoreOutput("leg", tokens)]
        house.links.deliver(encode(EngineCoreOutputs(outputs=outputs)), legs)
    assert house.links.sent(one) == (4, 5, 6)
    last = [EngineCoreOutput("leg", [7], finish_reason=FinishReason.LENGTH)]
    assert house.links.deliver(encode(EngineCoreOutputs(outputs=last)), legs) == [one]
    assert count() == 4, "it is to be known after the end too"
    assert house.links.sent(one) == ()
    house.heart.live.pop(one).cancel()


async def test_an_abort_frees_the_request(house: House) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.01)
    front = await house.front()
    await front.ask("a", 1000)
    await front.step()
    await front.abort("a", "never heard of")
    await until(lambda: house.heart.aborted == ["f0/a"])
    assert not house.links.open


@pytest.mark.parametrize("when", ["submit", "later"])
async def test_a_refusal_is_a_failed_output_that_says_why(house: House, when: str) -> None:
    error = BatonError(Reason.QUEUE_FULL, "The router is full.", retry_after_s=3)
    refused = {"refuse_submit": error} if when == "submit" else {"fail_with": error}
    house.heart.script = Script(tokens=[5], **refused)
    front = await house.front()
    await front.ask("a")
    (output,) = await front.answer("a")
    assert (output.finish_reason, output.new_token_ids) == (FinishReason.ERROR, [])
    said = failure_of(output)
    assert (said.reason, said.message) == (Reason.QUEUE_FULL, "The router is full.")
    assert said.retry_after_s == 3
    assert not house.links.open


@pytest.mark.parametrize("reason", [FinishReason.ABORT, FinishReason.ERROR])
async def test_what_an_engine_gives_up_is_no_answer(house: House, reason: FinishReason) -> None:
    house.heart.script = Script(tokens=[5], finish=reason)
    front = await house.front()
    await front.ask("a")
    assert (await front.answer("a"))[-1].finish_reason is FinishReason.ERROR


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"name": "n" * 257}, "256 characters"),
        ({"lora_request": LoRARequest("l", 1, "/l")}, "LoRA"),
        ({"prompt_token_ids": None}, "text prompt"),
        ({"resumable": True}, "Input that goes on"),
        ({"prompt_token_ids": [1] * 2048}, "2048 prompt tokens"),
        (
            {"params": SamplingParams(extra_args={"kv_transfer_params": {"remote": 1}})},
            "kv_transfer_params",
        ),
    ],
)
async def test_what_is_not_served_is_refused(house: House, more: dict, says: str) -> None:
    front = await house.front()
    name = more.pop("name", "a")
    await front.ask(name, **more)
    (output,) = await front.answer(name)
    assert output.finish_reason is FinishReason.ERROR
    assert says in str(output.stop_reason)
    assert not house.heart.requests


async def test_a_front_end_stands_for_its_tenant(house: House) -> None:
    house.heart.script = Script(tokens=[5])
    front = await house.front("f0", tenant="acme")
    await front.ask("a", priority=2, cache_salt="salt")
    await front.answer("a")
    (taken,) = house.heart.requests
    assert (taken.caller.tenant, taken.caller.priority) == ("acme", Priority.LOW)
    assert taken.cache_salt == "salt"


@pytest.mark.parametrize(
    ("number", "priority"),
    [
        (-3, Priority.HIGH),
        (0, Priority.HIGH),
        (1, Priority.NORMAL),
        (2, Priority.LOW),
        (99, Priority.LOW),
    ],
)
async def test_a_smaller_number_is_sooner(house: House, number: int, priority: Priority) -> None:
    front = await house.front()
    await front.ask("a", priority=number)
    await front.answer("a")
    assert house.heart.requests[0].caller.priority is priority


async def test_a_trace_goes_on_in_the_engines(house: House) -> None:
    house.links._tracing = Tracing(lambda _span: None, "model", 1.0)
    front = await house.front()
    await front.ask("a", trace_headers={"traceparent": TRACEPARENT})
    await front.answer("a")
    (taken,), (core,) = house.heart.requests, house.heart.cores
    ours = context_of(core.trace_headers["traceparent"])
    assert taken.trace is not None
    assert ours == taken.trace.context
    assert ours.trace_id == context_of(TRACEPARENT).trace_id
    assert ours.span_id != context_of(TRACEPARENT).span_id


async def test_tenants_of_front_ends_do_not_share_caches_if_told_so(house: House) -> None:
    for own in (False, True):
        house.links._own_caches = own
        for tenant in ("a", "b"):
            front = await house.front(f"{tenant}{own}", tenant)
            await front.ask("x", cache_salt="chosen")
            await front.answer("x")
    shared, own = house.heart.requests[:2], house.heart.requests[2:]
    assert [one.cache_salt for one in shared] == ["chosen", "chosen"]
    assert [one.cache_salt for one in own] == [
        tenant_salt("a", "chosen"),
        tenant_salt("b", "chosen"),
    ]
    assert [core.cache_salt for core in house.heart.cores[2:]] == [one.cache_salt for one in own]


async def test_what_is_asked_of_an_engine_is_answered_or_refused(house: House) -> None:
    front = await house.front()
    for method, result in (("get_supported_tasks", ["generate"]), ("is_sleeping", False)):
        await front.send(EngineCoreRequestType.UTILITY, (0, 7, method, ()))
        told = (await front.step()).utility_output
        assert (told.call_id, told.failure_message) == (7, None)
        assert list(told.result.result) == result if result else told.result.result is result
    await front.send(EngineCoreRequestType.UTILITY, (0, 8, "sleep", (1,)))
    told = (await front.step()).utility_output
    assert told.call_id == 8
    assert "Baton manages its own" in told.failure_message


async def test_one_that_leaves_takes_its_requests_along_and_no_others(house: House) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.005)
    stays, leaves = await house.front("f0"), await house.front("f1")
    for name in "ab":
        await stays.ask(name, 40)
        await leaves.ask(name, 10_000)
    await leaves.step()
    house.links.detach("f1")
    joins = await house.front("f2")
    await joins.ask("c", 20)
    assert sorted(house.heart.aborted) == ["f1/a", "f1/b"]
    answers = await asyncio.gather(stays.tokens("a"), joins.tokens("c"))
    assert [len(answer) for answer in answers] == [40, 20]
    await until(lambda: not house.links.open)
    assert house.links.attached == ("f0", "f2")
    assert house.lost == []
