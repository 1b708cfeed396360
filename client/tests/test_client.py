"""The client that blocks: every call, streams, deadlines, cancelling."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from baton_client import (
    Client,
    DeadlineExceededError,
    FinishReason,
    InvalidRequestError,
    NotFoundError,
    RequestCancelledError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    Usage,
)
from baton_client.testing import MAX_MODEL_LEN_TOKENS, MODEL, FakeBaton


def until(done: object) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_whole_answer(fake: FakeBaton, client: Client) -> None:
    fake.answer("Hello", " there")
    answer = client.generate("Hi you", temperature=0)
    assert (answer.text, answer.finish_reason, answer.model) == ("Hello there", "stop", MODEL)
    assert answer.usage == Usage(prompt_tokens=2, completion_tokens=2)
    assert answer.choices[0].tokens == 2
    assert 0 < answer.ttft_s <= answer.total_s
    split = answer.timing
    parts = [getattr(split, name) for name in split.__slots__ if name != "ttft_s"]
    assert sum(parts) == pytest.approx(split.ttft_s)
    assert answer.attempts == 1


def test_conversations_and_token_ids(fake: FakeBaton, client: Client) -> None:
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "a b"}]
    assert client.generate(said).text == "a b"
    assert client.generate([5, 6]).text == " 5 6"
    assert fake.requests[0].prompt.conversation.messages[0].role == "system"


def test_several_choices_with_ids_and_logprobs(client: Client) -> None:
    answer = client.generate("a b c", n=2, max_tokens=2, return_token_ids=True, logprobs=0)
    assert [choice.text for choice in answer.choices] == ["a b", "a b"]
    assert answer.finish_reason is FinishReason.LENGTH
    assert answer.choices[1].token_ids == (0, 1)
    assert len(answer.choices[0].logprobs) == 2
    assert answer.usage.completion_tokens == 4


def test_a_stream_is_its_pieces(client: Client) -> None:
    with client.stream("a b c") as stream:
        pieces = list(stream)
        assert list(stream) == []
    assert [str(piece) for piece in pieces] == ["a", " b", " c"]
    assert [piece.finish_reason for piece in pieces] == [None, None, "stop"]
    assert stream.result().text == "a b c"
    assert stream.so_far == stream.result()


def test_a_result_reads_what_is_left(client: Client) -> None:
    with client.stream("a b c") as stream:
        assert next(stream).text == "a"
        assert stream.so_far.text == "a"
        assert stream.result().text == "a b c"


def test_leaving_a_stream_cancels_it(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", "b", delay_s=0.05)
    fake.answer(*"abcdefgh" * 100, delay_s=0.05)
    assert client.generate("p").text == "ab"
    with client.stream("p") as stream:
        assert next(stream).text == "a"
    until(lambda: fake.cancelled == 1)
    with pytest.raises(RequestCancelledError):
        stream.result()


def test_a_stream_that_is_forgotten_is_cancelled(fake: FakeBaton, client: Client) -> None:
    fake.answer(*"abcdefgh" * 100, delay_s=0.05)
    for piece in client.stream("p"):
        assert piece.text == "a"
        break
    gc.collect()
    until(lambda: fake.cancelled == 1)


def test_another_thread_can_cancel(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", "b", delay_s=30)
    stream = client.stream("p")
    timer = threading.Timer(0.1, stream.cancel)
    timer.start()
    with pytest.raises(RequestCancelledError):
        next(stream)
    timer.join()
    until(lambda: fake.cancelled == 1)


def test_a_stream_cancelled_before_it_began_asks_nothing(fake: FakeBaton, client: Client) -> None:
    stream = client.stream("p")
    stream.cancel()
    with pytest.raises(RequestCancelledError):
        next(stream)
    assert fake.calls["Generate"] == 0


def test_a_pause_before_the_next_attempt_can_be_cancelled(fake: FakeBaton, client: Client) -> None:
    from baton_client import OverloadedError

    fake.fail(OverloadedError("full", reason="queue_full", retry_after_s=15))
    stream = client.stream("p")
    timer = threading.Timer(0.1, stream.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(RequestCancelledError):
        next(stream)
    assert time.monotonic() - started < 10
    timer.join()


def test_deadlines_reach_the_server(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", "b", delay_s=30)
    with pytest.raises(DeadlineExceededError):
        client.generate("p", timeout_s=0.2)
    until(lambda: fake.cancelled == 1)


def test_the_clients_deadline_holds_where_the_call_has_none(fake: FakeBaton) -> None:
    with Client(fake.address, timeout_s=0.2) as client:
        fake.answer("a", delay_s=30)
        with pytest.raises(DeadlineExceededError):
            client.generate("p")
        fake.answer("a", delay_s=0.5)
        assert client.generate("p", timeout_s=float("inf")).text == "a"


def test_an_answer_that_breaks_off_is_an_error(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", "b", error=ServerError("broke", reason="engine_failed"))
    with client.stream("p") as stream:
        assert [next(stream).text, next(stream).text] == ["a", "b"]
        with pytest.raises(ServerError, match="engine_failed"):
            next(stream)
    assert stream.so_far.finish_reason is None


def test_the_other_calls(fake: FakeBaton, client: Client) -> None:
    count = client.count_tokens("a b c", return_token_ids=True)
    assert (count.tokens, count.token_ids) == (3, (0, 1, 2))
    assert client.count_tokens("a").token_ids == ()
    (model,) = client.models()
    assert (model.name, model.max_model_len_tokens) == (MODEL, MAX_MODEL_LEN_TOKENS)
    assert not model.can_embed
    with pytest.raises(UnsupportedError):
        client.embed("a")
    fake.embeds = True
    assert client.models()[0].can_embed
    assert client.embed(["ab", "c"]).vectors == ((2.0, 1.0), (1.0, 1.0))
    assert client.embed("abc").vectors == ((3.0, 1.0),)


def test_the_story_of_a_request(client: Client) -> None:
    answer = client.generate("p")
    assert answer.request_id in client.story(answer.request_id)
    with pytest.raises(NotFoundError):
        client.story("nobody")


def test_keys_tenants_and_traces_travel_as_metadata() -> None:
    with FakeBaton(api_key="secret") as fake:
        with Client(fake.address, api_key="secret", tenant="t", model="m") as client:
            client.generate("p", traceparent="00-trace")
            client.models()
        sent = fake.metadata[0]
        assert (sent["x-baton-tenant"], sent["traceparent"]) == ("t", "00-trace")
        assert fake.requests[0].model == "m"
        for key in ("wrong", None):
            with Client(fake.address, api_key=key) as client:
                with pytest.raises(UnauthenticatedError):
                    client.generate("p")
                with pytest.raises(UnauthenticatedError):
                    client.models()


def test_a_client_serves_many_threads(client: Client) -> None:
    texts: list[str] = []
    asked = [f"{i} x y" for i in range(16)]
    threads = [
        threading.Thread(target=lambda t=t: texts.append(str(client.generate(t)))) for t in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == sorted(asked)


def test_a_closed_client_says_so(fake: FakeBaton) -> None:
    with Client(fake.address) as client:
        client.models()
        stream = client.stream("p")
    for ask in (client.models, lambda: client.generate("p"), lambda: next(stream)):
        with pytest.raises(RequestCancelledError, match="closed"):
            ask()


def test_what_breaks_off_may_still_be_worth_asking_again(fake: FakeBaton, client: Client) -> None:
    fake.answer("a", error=UnavailableError("lost"))
    with pytest.raises(UnavailableError) as caught:
        client.generate("p")
    assert caught.value.retryable
    assert fake.calls["Generate"] == 1


def test_what_cannot_be_encoded_is_refused_in_every_call(client: Client) -> None:
    lone = "\ud83d"
    for ask in (client.count_tokens, client.embed, client.story, client.generate):
        with pytest.raises(InvalidRequestError):
            ask(lone)
