"""The official OpenAI client against a real cluster: what users' programs do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from benchmarks.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
MODEL = "baton-demo"
ASK: list[Any] = [{"role": "user", "content": "def add(a, b):\n"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        # Without it vLLM holds the call to the tool's name, and its arguments to JSON only.
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["unit"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", timeout=60, max_retries=0
    ) as one:
        yield one


def test_models(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == [MODEL]


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_a_stream_says_the_same_as_one_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=20, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=20,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_several_answers(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="for i in ", max_tokens=6, n=3, temperature=1.0, seed=5
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.text for choice in answer.choices}) > 1


def test_a_seed_repeats(client: openai.OpenAI) -> None:
    texts = {
        client.completions.create(
            model=MODEL, prompt="class Reader", max_tokens=16, temperature=1.0, seed=11
        )
        .choices[0]
        .text
        for _ in range(3)
    }
    assert len(texts) == 1


def test_stop_strings(client: openai.OpenAI) -> None:
    plain = client.completions.create(
        model=MODEL, prompt="import os\n", max_tokens=24, temperature=0
    )
    stop = plain.choices[0].text[4:7]
    cut = client.completions.create(
        model=MODEL, prompt="import os\n", max_tokens=24, temperature=0, stop=[stop]
    )
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].text == plain.choices[0].text.partition(stop)[0]


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 5
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == max(t.logprob for t in token.top_logprobs)


def test_logprobs_of_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="def f():", max_tokens=2, echo=True, logprobs=1, temperature=0
    )
    assert answer.choices[0].text.startswith("def f():")


def test_an_answer_by_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "level": {"enum": ["low", "high"]}},
        "required": ["ok", "level"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=60,
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "reading", "schema": schema, "strict": True},
        },
    )
    reading = json.loads(answer.choices[0].message.content or "")
    assert isinstance(reading["ok"], bool)
    assert reading["level"] in {"low", "high"}


def test_a_tool_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=80,
        temperature=0,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["unit"] in {"c", "f"}


def test_tools_that_may_be_left_alone(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=8, temperature=0, tools=[WEATHER]
    )
    assert answer.choices[0].finish_reason in {"length", "stop", "tool_calls"}


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL, input="def mul(a, b):\n", max_output_tokens=8, store=False
    )
    assert answer.output_text


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=ASK)


def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt="word " * 9000, max_tokens=1)


def test_nonsense_parameters(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt="x", temperature=-3)
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt="x", max_tokens=0)


def test_an_earlier_response_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")


def test_pictures_are_refused(client: openai.OpenAI) -> None:
    picture: Any = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}],
        }
    ]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=picture)
