"""Many prompts: in order, a few at a time, errors as values."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from baton_client import (
    AsyncClient,
    BatonError,
    Client,
    Completion,
    InvalidRequestError,
    ServerError,
)
from baton_client.batch import Progress
from baton_client.testing import FakeBaton

PROMPTS = [f"{i} x" for i in range(20)]


def mapped(kind: str, fake: FakeBaton, prompts: object, **options: object) -> list:
    if kind == "blocking":
        with Client(fake.address) as client:
            return client.map(prompts, **options)

    async def run() -> list:
        async with AsyncClient(fake.address) as client:
            return await client.map(prompts, **options)

    return asyncio.run(run())


both = pytest.mark.parametrize("kind", ["blocking", "awaiting"])


@both
def test_results_come_in_the_order_of_the_prompts(kind: str, fake: FakeBaton) -> None:
    results = mapped(kind, fake, iter(PROMPTS), concurrency=7, max_tokens=5)
    assert [result.text for result in results] == PROMPTS
    assert {request.sampling.max_tokens for request in fake.requests} == {5}
    assert mapped(kind, fake, []) == []


@both
def test_so_many_run_at_a_time_and_no_more(kind: str, fake: FakeBaton) -> None:
    running, most, lock = 0, 0, threading.Lock()
    begin, wait = fake.begin, fake.wait

    def counted(*call: object) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1
        return begin(*call)

    fake.begin, fake.wait = counted, wait
    mapped(kind, fake, PROMPTS, concurrency=3)
    assert most == 3


@both
def test_a_prompt_that_fails_has_its_error_as_result(kind: str, fake: FakeBaton) -> None:
    fake.fail(ServerError("broke", reason="engine_failed"))
    results = mapped(kind, fake, ["a", [], "c"], concurrency=1)
    assert [type(result) for result in results] == [ServerError, InvalidRequestError, Completion]
    assert isinstance(results[0], BatonError)


@both
def test_prompts_that_break_off_stop_the_batch(kind: str, fake: FakeBaton) -> None:
    fake.answer("a", "b", delay_s=30)

    def prompts() -> Iterator[str]:
        yield "a"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        mapped(kind, fake, prompts(), concurrency=2)


@both
def test_wrong_options_are_not_results(kind: str, fake: FakeBaton) -> None:
    with pytest.raises(TypeError, match="max_token"):
        mapped(kind, fake, PROMPTS, max_token=5)
    with pytest.raises(ValueError, match="concurrency"):
        mapped(kind, fake, PROMPTS, concurrency=0)


@both
def test_the_bar_is_drawn_where_it_is_wanted(
    kind: str, fake: FakeBaton, monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal, wanted, drawn in [
        (False, None, False),
        (True, None, True),
        (False, True, True),
        (True, False, False),
    ]:
        screen = io.StringIO()
        screen.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stderr", screen)
        mapped(kind, fake, PROMPTS, progress=wanted)
        assert ("20/20" in screen.getvalue()) is drawn


def test_the_bar_says_how_far_how_fast_and_how_long() -> None:
    progress = Progress(4, None, 100.0)
    assert progress.line(100.0) == "........................  0/4  0 tokens/s"
    progress.took(3000)
    progress.done(ServerError("broke"))
    assert (
        progress.line(102.0) == "######..................  1/4  1,500 tokens/s  0:06 left  1 failed"
    )
    assert Progress(0, None, 0.0).line(1.0) == "0/?  0 tokens/s"


def test_an_interrupted_batch_cancels_what_runs(fake: FakeBaton, client: Client) -> None:
    for _ in range(4):
        fake.answer("a", "b", delay_s=30)

    def prompts() -> Iterator[str]:
        yield from "abcd"
        while fake.calls["Generate"] < 4:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.map(prompts(), concurrency=5)
    for _ in range(500):
        if fake.cancelled == 4:
            return
        time.sleep(0.01)
    raise AssertionError(fake.cancelled)


@both
def test_requests_of_a_batch_have_names_of_their_own(kind: str, fake: FakeBaton) -> None:
    with pytest.raises(TypeError, match="request_id"):
        mapped(kind, fake, PROMPTS, request_id="mine")
    assert not fake.requests


@both
def test_errors_keep_nothing_of_what_they_came_through(kind: str, fake: FakeBaton) -> None:
    fake.fail(ServerError("broke"))
    for error in mapped(kind, fake, ["a", [], "\ud83d"], concurrency=1):
        assert isinstance(error, BatonError)
        assert error.__traceback__ is error.__context__ is error.__cause__ is None
