"""Bodies and fields that are refused before vLLM's server sees them."""

from types import SimpleNamespace

import pytest

from baton.errors import BatonError, Reason
from router.http_guard import (
    ERROR_STATE,
    HttpGuard,
    error_headers,
    error_response,
    refuse_fields,
    refuse_transfer_fields,
)

LIMIT = 10


async def _ask(chunks: list[bytes], *, length: int | None = None, path: str = "/", **scope_more):
    """The status that a guarded echo answers, what it read, and all messages sent."""
    pending, sent, read = list(chunks), [], []

    async def receive():
        body = pending.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(pending)}

    async def send(message):
        sent.append(message)

    async def echo(scope, receive, send):
        while True:
            message = await receive()
            read.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"".join(read)})

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, **scope_more}
    await HttpGuard(echo, LIMIT)(scope, receive, send)
    return sent[0]["status"], b"".join(read), sent


@pytest.mark.parametrize(
    "chunks", [[b"x" * 10], [b"x" * 5, b"x" * 5], [b"x" * 9, b"", b"x"], [b""]]
)
async def test_bodies_up_to_the_limit_pass(chunks):
    for length in (None, sum(map(len, chunks))):
        status, read, _ = await _ask(chunks, length=length)
        assert (status, read) == (200, b"".join(chunks))


@pytest.mark.parametrize(
    "chunks", [[b"x" * 11], [b"x" * 10, b"x"], [b"x" * 6, b"x" * 6, b"x" * 900]]
)
async def test_larger_bodies_are_refused_unread(chunks):
    for length in (None, sum(map(len, chunks))):
        status, read, sent = await _ask(chunks, length=length)
        assert (status, read) == (413, b"")
        assert (b"x-baton-reason", b"body_too_large") in sent[0]["headers"]
        assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_length_that_is_no_number_is_counted():
    status, _, _ = await _ask([b"x" * 11], headers=[(b"content-length", b"-5")])
    assert status == 413


async def test_draining_has_an_end():
    chunks = [b"x" * 11] * 1000
    await _ask(chunks)
    status, _, _ = await _ask(chunks, length=11_000)
    assert status == 413


async def test_messages_get_the_headers_of_their_error():
    state = {ERROR_STATE: BatonError(Reason.QUEUE_FULL, "full", retry_after_s=0.2)}
    _, _, sent = await _ask([b""], path="/v1/messages", state=state)
    assert dict(sent[0]["headers"]) == {b"x-baton-reason": b"queue_full", b"retry-after": b"1"}
    _, _, sent = await _ask([b""], path="/v1/completions", state=state)
    assert sent[0]["headers"] == []


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "0"), (0.1, "1"), (2.0, "2"), (None, None)])
def test_retry_after_is_rounded_up(seconds, header):
    error = BatonError(Reason.QUEUE_FULL, "full", retry_after_s=seconds)
    assert error_headers(error).get("retry-after") == header


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_an_answer(reason):
    response = error_response(BatonError(reason, "why"))
    assert response.status_code == BatonError(reason, "").rule.http_status
    assert response.headers["x-baton-reason"] == reason.value


@pytest.mark.parametrize("field", ["kv_transfer_params", "ec_transfer_params"])
@pytest.mark.parametrize("value", [{}, {"a": 1}, "x", 0, False])
def test_transfer_fields_are_refused_whatever_they_hold(field, value):
    with pytest.raises(BatonError) as raised:
        refuse_transfer_fields({field: value})
    assert raised.value.param == field
    for request in (
        SimpleNamespace(**{field: value}),
        SimpleNamespace(vllm_xargs={field: value}),
    ):
        with pytest.raises(BatonError):
            refuse_fields(request)


@pytest.mark.parametrize(
    "request_",
    [
        SimpleNamespace(),
        SimpleNamespace(kv_transfer_params=None, vllm_xargs=None, background=False),
        SimpleNamespace(messages=[{"role": "user", "content": "image"}], input="image"),
        SimpleNamespace(messages=[{"content": [{"type": "text", "text": "image"}, "x"]}]),
        SimpleNamespace(input=[{"type": "function_call_output", "output": "a"}, "text", None]),
        SimpleNamespace(messages=[SimpleNamespace(content=[SimpleNamespace(type="tool_result")])]),
    ],
)
def test_text_passes(request_):
    refuse_fields(request_)


@pytest.mark.parametrize(
    "part",
    [{"type": kind} for kind in ("image_url", "input_image", "image", "input_audio", "audio_url")]
    + [{"type": kind} for kind in ("video_url", "input_file", "file", "document", "image_pil")]
    + [SimpleNamespace(type="image")],
)
def test_media_are_refused(part):
    for request in (
        SimpleNamespace(messages=[{"role": "user", "content": [part]}]),
        SimpleNamespace(messages=[SimpleNamespace(content=[part])]),
        SimpleNamespace(input=[part]),
        SimpleNamespace(input=[{"type": "function_call_output", "output": [part]}]),
        SimpleNamespace(messages=[{"content": [{"type": "tool_result", "content": [part]}]}]),
    ):
        with pytest.raises(BatonError, match="Only text"):
            refuse_fields(request)
