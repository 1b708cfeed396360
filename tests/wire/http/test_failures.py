"""Refusals by the heart, and requests that fail later."""

from __future__ import annotations

import asyncio
import json

import pytest
from vllm.v1.engine import FinishReason

from baton.errors import BatonError, Reason
from router.caller import ANYBODY, Caller
from tests.wire.http.support import BODIES, House, complete, events_of, post, until

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]

REFUSALS = [
    (Reason.QUEUE_FULL, 429),
    (Reason.NO_WORKER, 503),
    (Reason.INVALID_REQUEST, 400),
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reason", "status"), REFUSALS)
async def test_refused_at_the_door(house, path, stream, reason, status):
    house.heart.script.refuse_admit = BatonError(reason, "not now", retry_after_s=1.2)
    response = await post(house, path, stream=stream, **BODIES[path])
    assert response.status_code == status
    if path != "/v1/messages":
        assert response.json()["error"]["code"] == reason.value
        assert response.headers["x-baton-reason"] == reason.value
        assert response.headers["retry-after"] == "2"


async def test_refused_messages_keep_their_headers(house: House):
    house.heart.script.refuse_admit = BatonError(Reason.QUEUE_FULL, "not now", retry_after_s=3)
    response = await post(house, "/v1/messages", **BODIES["/v1/messages"])
    assert response.headers["retry-after"] == "3"
    assert response.headers["x-baton-reason"] == "queue_full"
    assert response.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
async def test_refused_at_submission(house: House, path: str, n: int, stream: bool):
    house.heart.script.refuse_submit = BatonError(Reason.NO_WORKER, "gone", retry_after_s=1)
    response = await post(house, path, n=n, stream=stream, **BODIES[path])
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_a_refused_prompt_takes_back_those_before_it(house: House):
    house.heart.script.hang = True

    def admit(_n: int = 1, _caller: Caller = ANYBODY) -> None:
        if house.heart.requests:
            house.heart.script.refuse_submit = BatonError(Reason.QUEUE_FULL, "one is enough")

    house.heart.admit = admit  # type: ignore[method-assign]
    try:
        response = await complete(house, prompt=["a", "b"])
    finally:
        del house.heart.admit
    assert response.status_code == 429
    await until(lambda: len(house.heart.aborted) == 1)


@pytest.mark.parametrize("path", BODIES)
async def test_failure_before_the_answer_is_a_status(house: House, path: str):
    house.heart.script.fail_with = BatonError(Reason.WORKER_LOST, "decode-0 died")
    response = await post(house, path, **BODIES[path])
    assert response.status_code == 502
    assert "decode-0 died" in response.json()["error"]["message"]


async def test_a_mistake_in_what_is_made_of_an_answer_is_no_client_s(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    def mistaken(*_args: object, **_options: object) -> object:
        raise IndexError("no such choice")

    serving = house.app.state.openai_serving_completion
    monkeypatch.setattr(serving, "request_output_to_completion_response", mistaken)
    assert (await complete(house)).status_code == 500


@pytest.mark.parametrize("path", BODIES)
async def test_failure_in_mid_stream_is_an_event(house: House, path: str):
    house.heart.script.fail_with = BatonError(Reason.WORKER_LOST, "decode-0 died")
    house.heart.script.fail_after, house.heart.script.delay_s = 3, 0.02
    response = await post(house, path, stream=True, **BODIES[path])
    assert response.status_code == 200
    errors = [e for e in events_of(response) if "error" in e or e.get("type") == "error"]
    assert "worker_lost: decode-0 died" in json.dumps(errors[-1])
    assert len(errors) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_of_one_of_n_ends_all(house: House, stream: bool):
    house.heart.script.fail_with = BatonError(Reason.WORKER_LOST, "decode-0 died")
    house.heart.script.fail_after, house.heart.script.delay_s = 2, 0.01
    response = await complete(house, n=3, stream=stream)
    assert "decode-0 died" in response.text
    assert response.status_code == (200 if stream else 502)
    await until(lambda: len(house.heart.aborted) == 2)


@pytest.mark.parametrize("finish", [FinishReason.ABORT, FinishReason.ERROR])
async def test_an_engine_that_gives_up_is_an_error(house: House, finish: FinishReason):
    house.heart.script.finish = finish
    response = await complete(house)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"


async def test_unreadable_outputs_are_an_error(house: House):
    house.heart.script.hang = True
    asking = asyncio.gather(complete(house))
    await until(lambda: house.heart.live)
    (request_id,) = house.heart.live
    assert house.front.deliver([b"\xc1"], {"x.0.d": request_id}) == [request_id]
    (response,) = await asking
    assert response.status_code == 500
