"""Prompts and options become the request that they say."""

from __future__ import annotations

import dataclasses
import json

import pytest
from baton_client import InvalidRequestError, Sampling
from baton_client.prompts import GenerateOptions, SamplingOptions, generate_ask, prompt_message
from baton_client.v1 import service_pb2 as pb


def request(prompt: object = "p", **options: object) -> pb.GenerateRequest:
    return generate_ask(prompt, options).attempt()


def test_the_three_kinds_of_prompt() -> None:
    assert prompt_message("text").text == "text"
    assert list(prompt_message([1, 2]).token_ids.ids) == [1, 2]
    conversation = prompt_message([{"role": "user", "content": "c"}]).conversation
    assert conversation.messages == [pb.ChatMessage(role="user", content="c")]


@pytest.mark.parametrize(
    "prompt", [[], [1, "2"], [-1], [1, {"role": "user"}], [{"role": "user", "text": "c"}], [None]]
)
def test_other_prompts_are_refused_here(prompt: object) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        prompt_message(prompt)
    assert (raised.value.param, raised.value.reason) == ("prompt", "invalid_request")


def test_each_sampling_option_reaches_the_message() -> None:
    options = {
        "max_tokens": 0,
        "min_tokens": 1,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 0,
        "min_p": 0.125,
        "presence_penalty": 1.0,
        "frequency_penalty": 2.0,
        "repetition_penalty": 3.0,
        "seed": -4,
        "n": 2,
        "stop": ["a", "b"],
        "stop_token_ids": [5],
        "ignore_eos": True,
        "bad_words": ["w"],
        "logprobs": 0,
        "regex": "x+",
    }
    sent = request(**options).sampling
    for name, value in options.items():
        got = getattr(sent, name)
        assert (list(got) if isinstance(value, list) else got) == value, name
    assert sent.HasField("max_tokens")
    assert not request().sampling.ListFields()


def test_the_names_are_those_of_the_service() -> None:
    fields = {field.name for field in dataclasses.fields(Sampling)}
    assert fields == set(pb.Sampling.DESCRIPTOR.fields_by_name)
    assert fields == set(SamplingOptions.__annotations__)
    # What a broken stream has brought is the client's own business.
    extra = set(pb.GenerateRequest.DESCRIPTOR.fields_by_name) - {"prompt", "resume_token_ids"}
    assert extra | fields | {"timeout_s", "traceparent"} == set(GenerateOptions.__annotations__)


def test_keywords_come_before_a_sampling() -> None:
    sent = request(sampling=Sampling(temperature=0.5, top_k=3), temperature=0.25).sampling
    assert (sent.temperature, sent.top_k) == (0.25, 3)


def test_structures() -> None:
    schema = {"type": "object"}
    assert json.loads(request(json_schema=schema).sampling.json_schema) == schema
    assert request(json_schema="{}").sampling.json_schema == "{}"
    assert list(request(choices=["a", "b"]).sampling.choices.texts) == ["a", "b"]
    assert list(request(stop="a b").sampling.stop) == ["a b"]
    with pytest.raises(InvalidRequestError, match="regex, grammar"):
        request(regex="a", grammar="b")


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", -1), ("temperature", "hot"), ("priority", "urgent"), ("n", 1.5)],
)
def test_a_wrong_value_names_its_option(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        request(**{name: value})
    assert raised.value.param == name


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="max_token"):
        request(max_token=5)


def test_the_rest_of_a_request() -> None:
    options = {"model": "m", "priority": "low", "cache_salt": "s", "return_token_ids": True}
    ask = generate_ask("p", {**options, "traceparent": "00-t", "timeout_s": 3.0}, "default")
    sent = ask.attempt()
    assert (sent.model, sent.priority, sent.cache_salt) == ("m", pb.PRIORITY_LOW, "s")
    assert sent.return_token_ids
    assert (ask.timeout_s, ask.metadata) == (3.0, (("traceparent", "00-t"),))
    assert generate_ask("p", {}, "default").attempt().model == "default"


def test_each_attempt_has_a_name_of_its_own_unless_one_was_given() -> None:
    ask = generate_ask("p", {}, prefix="s.")
    names = {ask.attempt().request_id for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("s.") for name in names)
    given = generate_ask("p", {"request_id": "mine"})
    assert {given.attempt().request_id for _ in range(2)} == {"mine"}


def test_top_k_of_minus_one_means_all() -> None:
    assert generate_ask("p", {"top_k": -1}).request.sampling.top_k == 0


def test_what_cannot_be_encoded_or_sent_is_refused_here() -> None:
    lone = "half a pair: \ud83d"
    with pytest.raises(InvalidRequestError) as raised:
        prompt_message(lone)
    assert raised.value.param == "prompt"
    for name in ("request_id", "model", "stop"):
        with pytest.raises(InvalidRequestError) as raised:
            request(**{name: lone})
        assert raised.value.param == name


@pytest.mark.parametrize("value", ["00-é", "00-t\n", "secret\x00", 5])
def test_a_traceparent_that_is_no_header_is_refused_here(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="printable ASCII") as raised:
        request(traceparent=value)
    assert raised.value.param == "traceparent"
    assert str(value) not in str(raised.value)
