"""Requests that are refused for what they say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.http.support import BODIES, CHAT, House, complete, post

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]
TEXT_PART = {"type": "input_text", "text": ""}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("body", ["{", '{"model": "demo"', "null", "[]", "\x00", ""])
async def test_malformed_json(house: House, path: str, body: str):
    headers = {"content-type": "application/json"}
    response = await house.client.post(path, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_model(house: House, stream: bool):
    response = await complete(house, model="other", stream=stream)
    assert response.status_code == 404


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": -1},
        {"max_tokens": "many"},
        {"temperature": -1},
        {"temperature": "hot"},
        {"top_p": 2},
        {"n": 0},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": {"a": 1}},
        {"prompt": [999_999_999]},
        {"logprobs": 1000},
        {"logit_bias": {"99999999": 1}},
        {"prompt": "word " * 20_000},
        {"stop": 5},
        {"structured_outputs": {"regex": "("}},
    ],
    ids=lambda body: str(body)[:24],
)
async def test_wrong_completions(house: House, body: dict[str, Any], stream: bool):
    response = await complete(house, stream=stream, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
    assert not house.heart.requests


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "assistant", "content": []},
        {"type": "function_call_output", "call_id": "a", "created_by": "b", "output": [TEXT_PART]},
    ],
)
async def test_what_vllm_stumbles_over_is_a_wrong_request(house: House, item: dict[str, Any]):
    whole = {"id": "", "status": "completed", **item}
    response = await post(house, "/v1/responses", input=[whole])
    assert response.status_code == 400
    assert response.headers["x-baton-reason"] == "invalid_request"
    assert not house.heart.requests


async def test_fields_that_a_route_does_not_know_are_not_read(house: House):
    response = await post(house, "/detokenize", tokens=[5], vllm_xargs=True)
    assert response.status_code == 200


async def test_max_tokens_0_is_a_clean_answer(house: House):
    response = await complete(house, max_tokens=0)
    assert response.status_code == 400
    assert not house.heart.requests


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "field",
    [
        {"kv_transfer_params": {"do_remote_prefill": True}},
        {"kv_transfer_params": {}},
        {"ec_transfer_params": {"a": 1}},
        {"vllm_xargs": {"kv_transfer_params": "x"}},
    ],
    ids=str,
)
async def test_foreign_kv_is_refused(house: House, path: str, stream: bool, field: dict[str, Any]):
    response = await post(house, path, stream=stream, **BODIES[path], **field)
    assert response.status_code == 400
    assert response.headers["x-baton-reason"] == "unsupported"
    assert not house.heart.requests


async def test_foreign_kv_is_refused_in_messages(house: House):
    body = {"messages": CHAT, "max_tokens": 4, "kv_transfer_params": {"a": 1}}
    response = await post(house, "/v1/messages", **body)
    assert response.status_code == 400
    assert response.headers["x-baton-reason"] == "unsupported"
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", [{"previous_response_id": "resp_1"}, {"background": True}])
async def test_stored_responses_are_refused(house: House, field: dict[str, Any]):
    response = await post(house, "/v1/responses", input="Hello", **field)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported"
    assert response.json()["error"]["param"] == next(iter(field))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/chat/completions", {"type": "image_url", "image_url": {"url": "http://x/a.png"}}),
        ("/v1/chat/completions", {"type": "input_audio", "input_audio": {}}),
        ("/v1/responses", {"type": "input_image", "image_url": "http://x/a", "detail": "auto"}),
        ("/v1/messages", {"type": "image", "source": {"type": "url", "url": "http://x/a"}}),
        ("/v1/messages/count_tokens", {"type": "image", "source": {"type": "url", "url": "x"}}),
        ("/tokenize", {"type": "image_url", "image_url": {"url": "http://x/a.png"}}),
    ],
)
async def test_media_are_refused(house: House, path: str, content: dict[str, Any]):
    turn = [{"role": "user", "content": [content]}]
    response = await post(house, path, messages=turn, input=turn, max_tokens=4)
    assert response.status_code == 400
    assert response.headers["x-baton-reason"] == "unsupported"


async def test_lora_is_refused(house: House):
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        response = await post(house, path, lora_name="a", lora_path="/a")
        assert response.status_code == 403


@pytest.mark.parametrize(
    ("path", "field", "item", "most"),
    [
        ("/v1/chat/completions", "messages", CHAT[0], 8192),
        ("/v1/messages", "messages", CHAT[0], 8192),
        ("/v1/responses", "input", CHAT[0], 8192),
    ],
)
async def test_too_many_parts_are_refused(
    house: House, path: str, field: str, item: Any, most: int
):
    body = {**BODIES[path], field: [item] * (most + 1)}
    response = await post(house, path, **body)
    assert response.status_code == 400
    assert response.headers["x-baton-reason"] == "invalid_request"
    assert f"{most + 1} items" in response.text


async def test_long_ids_and_names_are_refused(house: House):
    long = {"x-request-id": "r" * 300}
    body = {"model": "demo", "prompt": "Hi"}
    refused = await house.client.post("/v1/completions", json=body, headers=long)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "request_id"
    named = {"x-baton-tenant": "t" * 65}
    refused = await house.client.post("/v1/completions", json=body, headers=named)
    assert refused.json()["error"]["param"] == "x-baton-tenant"
    assert not house.heart.requests
