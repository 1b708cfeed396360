"""Answers that go well, in every API."""

from __future__ import annotations

import asyncio

import pytest

from baton.errors import BatonError, Reason
from tests.wire.http.support import CHAT, TEXT, House, chat, complete, events_of, post, until

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]


async def test_models(house: House):
    (model,) = (await house.client.get("/v1/models")).json()["data"]
    assert model["id"] == "demo"


async def test_completion(house: House):
    answer = (await complete(house, seed=7)).json()
    assert answer["choices"][0]["text"] == TEXT
    assert answer["usage"]["completion_tokens"] == len(house.words) + 1
    (core,) = house.heart.cores
    assert core.sampling_params.seed == 7
    (request,) = house.heart.requests
    assert request.prompt_tokens == len(core.prompt_token_ids)
    assert request.max_tokens == 64
    assert request.may_disaggregate


async def test_completion_stream(house: House):
    response = await complete(house, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "".join(e["choices"][0]["text"] for e in events_of(response)) == TEXT
    assert response.text.rstrip().endswith("data: [DONE]")


async def test_chat(house: House):
    answer = (await chat(house)).json()
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_chat_stream_with_usage(house: House):
    events = events_of(await chat(house, stream=True, stream_options={"include_usage": True}))
    text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
    assert text == TEXT
    assert events[-1]["usage"]["completion_tokens"] == len(house.words) + 1


async def test_logprobs(house: House):
    answer = (await chat(house, logprobs=True, top_logprobs=2)).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == len(house.words) + 1
    assert content[0]["logprob"] == -0.5
    assert len(content[0]["top_logprobs"]) == 2


async def test_prompt_logprobs_are_not_disaggregated(house: House):
    house.heart.script.fail_with = BatonError(Reason.NO_WORKER, "enough seen")
    assert (await complete(house, prompt_logprobs=1)).status_code == 503
    assert not house.heart.requests[0].may_disaggregate


async def test_the_prompt_and_its_salt_reach_the_policy(house: House):
    await complete(house, cache_salt="tenant")
    (request,), (core,) = house.heart.requests, house.heart.cores
    assert list(request.tokens) == core.prompt_token_ids
    assert request.cache_salt == "tenant"


@pytest.mark.parametrize(
    ("body", "resumable"),
    [
        ({}, True),
        ({"temperature": 0, "seed": 3}, True),
        ({"temperature": 0.7, "seed": 3}, False),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, False),
    ],
)
async def test_what_another_engine_could_not_go_on_with(house: House, body, resumable: bool):
    await complete(house, **body)
    assert house.heart.requests[0].resumable is resumable


async def test_the_front_knows_what_it_has_been_given(house: House):
    house.heart.script.hang, house.heart.script.fail_after = True, 5
    asking = asyncio.create_task(complete(house))
    await until(lambda: house.heart.requests)
    (request,) = house.heart.requests
    await until(lambda: len(house.front.sent(request.request_id)) == 5)
    assert list(house.front.sent(request.request_id)) == house.words[:5]
    assert house.front.sent("unknown") == ()
    counted = house.front.counter(request.request_id)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: not house.heart.live)
    assert house.front.sent(request.request_id) == ()
    assert (counted(), house.front.counter("unknown")()) == (5, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_n(house: House, stream: bool):
    response = await complete(house, n=3, stream=stream, seed=1)
    events = events_of(response) if stream else [response.json()]
    texts = ["", "", ""]
    for choice in (c for e in events for c in e["choices"]):
        texts[choice["index"]] += choice["text"]
    assert texts == [TEXT] * 3
    assert [core.sampling_params.seed for core in house.heart.cores] == [1, 2, 3]


async def test_several_prompts(house: House):
    answer = (await complete(house, prompt=["a", "b", "c"])).json()
    assert [c["text"] for c in answer["choices"]] == [TEXT] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_string_aborts_the_engine(house: House, stream: bool):
    house.heart.script.endless = True
    response = await complete(house, stop=[" fox"], stream=stream)
    events = events_of(response) if stream else [response.json()]
    assert "".join(e["choices"][0]["text"] for e in events) == " The quick brown"
    assert events[-1]["choices"][0]["stop_reason"] == " fox"
    assert house.heart.aborted == [house.heart.requests[0].request_id]


async def test_responses_are_not_stored(house: House):
    answer = await post(house, "/v1/responses", input="Hello", store=True)
    assert answer.json()["output"][0]["content"][0]["text"] == TEXT
    assert house.app.state.openai_serving_responses.response_store == {}
    stored = await house.client.get(f"/v1/responses/{answer.json()['id']}")
    assert stored.status_code == 403


async def test_responses_stream(house: House):
    events = events_of(await post(house, "/v1/responses", input="Hello", stream=True))
    assert events[-1]["type"] == "response.completed"


@pytest.mark.parametrize("stream", [False, True])
async def test_messages(house: House, stream: bool):
    body = {"messages": CHAT, "max_tokens": 64, "stream": stream}
    response = await post(house, "/v1/messages", **body)
    if stream:
        deltas = [event.get("delta", {}) for event in events_of(response)]
        assert "".join(delta.get("text", "") for delta in deltas) == TEXT
    else:
        assert response.json()["content"][0]["text"] == TEXT


async def test_count_tokens(house: House):
    answer = await post(house, "/v1/messages/count_tokens", messages=CHAT)
    assert answer.json()["input_tokens"] > 0


async def test_tokenize_and_back(house: House):
    tokens = (await post(house, "/tokenize", prompt=TEXT, add_special_tokens=False)).json()
    assert tokens["tokens"] == house.words
    back = await post(house, "/detokenize", tokens=house.words)
    assert back.json()["prompt"] == TEXT
