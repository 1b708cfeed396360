"""Answers over gRPC: the same as over HTTP, in messages."""

from __future__ import annotations

import math

import pytest
from baton_client.v1 import service_pb2 as pb

from tests.wire.http.support import CHAT, TEXT
from tests.wire.rpc.support import TALK, House, asked, generate, talk, text_of, told

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]


async def test_text(house: House):
    messages = await generate(house, request_id="mine")
    assert text_of(messages) == TEXT
    assert (messages[0].request_id, messages[0].model) == ("mine", "demo")
    assert not any(message.request_id for message in messages[1:])
    ends = [d.finish_reason for m in messages for d in m.deltas if d.finish_reason]
    assert ends == [pb.FINISH_REASON_STOP]
    assert [m.HasField("usage") for m in messages] == [False] * (len(messages) - 1) + [True]
    usage, tokens = messages[-1].usage, sum(d.tokens for m in messages for d in m.deltas)
    assert usage.completion_tokens == tokens == len(house.words) + 1
    assert usage.prompt_tokens == len(house.heart.cores[0].prompt_token_ids)


async def test_prompts_are_read_as_over_http(house: House):
    http = house.client
    await http.post("/v1/completions", json={"prompt": "Hi there", "max_tokens": 3})
    await http.post("/v1/chat/completions", json={"messages": CHAT, "max_tokens": 3})
    await http.post("/v1/completions", json={"prompt": [5, 6, 7], "max_tokens": 3})
    few = {"max_tokens": 3}
    await generate(house, "Hi there", few)
    await generate(house, talk(), few)
    await generate(house, pb.Prompt(token_ids=pb.TokenIds(ids=[5, 6, 7])), few)
    tokens = [list(core.prompt_token_ids) for core in house.heart.cores]
    assert tokens[:3] == tokens[3:]
    assert all(tokens)


async def test_sampling_is_that_of_http(house: House):
    chosen = {
        "max_tokens": 7,
        "min_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "min_p": 0.125,
        "presence_penalty": 1.5,
        "frequency_penalty": -1.5,
        "repetition_penalty": 1.25,
        "seed": -5,
        "n": 2,
        "stop": ["zz"],
        "stop_token_ids": [9],
        "ignore_eos": True,
        "bad_words": ["bad"],
        "logprobs": 2,
    }
    await house.client.post("/v1/completions", json={"prompt": "Hi", "stream": True, **chosen})
    await generate(house, sampling=chosen)
    # Nothing but a request's own name differs.
    http, _, rpc, _ = (core.sampling_params for core in house.heart.cores)
    assert rpc == http


async def test_what_is_left_out_is_what_the_model_has(house: House):
    house.heart.script.tokens = house.words[:3]
    await told(house.stub.Generate(pb.GenerateRequest(prompt=pb.Prompt(text="Hi"))))
    params, prompt = house.heart.cores[0].sampling_params, house.heart.cores[0].prompt_token_ids
    assert params.max_tokens == house.front.model_config.max_model_len - len(prompt)
    assert (params.n, params.seed, params.logprobs) == (1, None, None)


@pytest.mark.parametrize(
    ("structure", "field", "value"),
    [
        ({"json_schema": '{"type": "object"}'}, "json", '{"type": "object"}'),
        ({"regex": "[a-z]+"}, "regex", "[a-z]+"),
        ({"grammar": 'root ::= "a" | "b"'}, "grammar", 'root ::= "a" | "b"'),
        ({"choices": pb.Choices(texts=["yes", "no"])}, "grammar", 'root ::= "yes" | "no"'),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_structure(house: House, structure, field, value):
    await generate(house, sampling={"max_tokens": 3, **structure})
    assert getattr(house.heart.cores[0].sampling_params.structured_outputs, field) == value


async def test_several_choices(house: House):
    messages = await generate(house, sampling={"n": 3, "temperature": 1.0})
    assert [text_of(messages, index) for index in range(3)] == [TEXT] * 3
    ends = sorted(d.index for m in messages for d in m.deltas if d.finish_reason)
    assert ends == [0, 1, 2]
    assert messages[-1].usage.completion_tokens == 3 * (len(house.words) + 1)


async def test_a_stop_text_ends_it_and_is_told(house: House):
    messages = await generate(house, sampling={"stop": [" lazy"]})
    assert text_of(messages) == TEXT.partition(" lazy")[0]
    last = [d for m in messages for d in m.deltas][-1]
    assert (last.finish_reason, last.stop_text) == (pb.FINISH_REASON_STOP, " lazy")


async def test_length(house: House):
    messages = await generate(house, sampling={"max_tokens": 3})
    last = [d for m in messages for d in m.deltas][-1]
    assert (last.finish_reason, last.stop_text) == (pb.FINISH_REASON_LENGTH, "")


async def test_token_ids_and_logprobs_for_those_who_ask(house: House):
    plain = await generate(house)
    assert not any(d.token_ids or d.logprobs for m in plain for d in m.deltas)
    full = await generate(house, sampling={"logprobs": 2}, return_token_ids=True)
    deltas = [d for m in full for d in m.deltas]
    assert [token for d in deltas for token in d.token_ids][:-1] == house.words
    scored = [one for d in deltas for one in d.logprobs]
    assert [one.chosen.token_id for one in scored][:-1] == house.words
    assert math.isclose(scored[0].chosen.logprob, -0.5)
    assert [t.logprob for t in scored[0].top] == sorted(t.logprob for t in scored[0].top)[::-1]
    assert 0 < len(scored[0].top) <= 2
    assert scored[0].chosen.text in TEXT


async def test_what_waits_goes_in_one_message(house: House):
    house.heart.script.endless = True
    call = house.stub.Generate(asked(sampling={"max_tokens": 1500}), timeout=20)
    messages = await told(call)
    assert sum(d.tokens for m in messages for d in m.deltas) == 1500
    assert len(messages) < 1500
    assert max(d.tokens for m in messages for d in m.deltas) > 1


async def test_a_salt_goes_with_the_prompt(house: House):
    await generate(house, cache_salt="mine")
    await generate(house, talk(), cache_salt="mine")
    await generate(house)
    assert [request.cache_salt for request in house.heart.requests] == ["mine", "mine", ""]


@pytest.mark.parametrize(
    "prompt",
    [
        pb.Prompt(text="Hi there"),
        pb.Prompt(conversation=pb.Conversation(messages=TALK)),
        pb.Prompt(token_ids=pb.TokenIds(ids=[3, 4])),
    ],
    ids=["text", "conversation", "token ids"],
)
async def test_tokens_are_counted_as_generate_reads_them(house: House, prompt: pb.Prompt):
    counted = await house.stub.CountTokens(
        pb.CountTokensRequest(prompt=prompt, return_token_ids=True)
    )
    await generate(house, prompt)
    assert list(counted.token_ids) == list(house.heart.cores[0].prompt_token_ids)
    assert counted.tokens == len(counted.token_ids)
    assert counted.max_model_len_tokens == house.front.model_config.max_model_len
    brief = await house.stub.CountTokens(pb.CountTokensRequest(prompt=prompt))
    assert (brief.tokens, list(brief.token_ids)) == (counted.tokens, [])


async def test_a_prompt_longer_than_the_model_is_counted(house: House):
    most = house.front.model_config.max_model_len
    prompt = pb.Prompt(text="word " * 2 * most)
    counted = await house.stub.CountTokens(pb.CountTokensRequest(prompt=prompt))
    assert counted.tokens > counted.max_model_len_tokens == most


async def test_models(house: House):
    (model,) = (await house.stub.ListModels(pb.ListModelsRequest())).models
    assert (model.name, model.can_generate, model.can_embed) == ("demo", True, False)
    assert model.max_model_len_tokens == house.front.model_config.max_model_len


async def test_a_story(house: House):
    found = await house.stub.GetStory(pb.GetStoryRequest(request_id="known"))
    assert found.text == "told"


@pytest.mark.parametrize(("prompt", "found"), [(talk(), True), ("Hi", None)])
async def test_a_structure_begins_with_the_answer_of_a_conversation(house: House, prompt, found):
    sampling = {"choices": pb.Choices(texts=["yes", "no"])}
    await generate(house, prompt, sampling)
    assert house.heart.cores[0].reasoning_ended is found
