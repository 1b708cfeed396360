"""`baton bench` against a small server whose delays, refusals and deaths are known."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from baton.clock import ManualClock
from baton.errors import BatonError, Reason, StartupError
from deploy import cli
from deploy.bench import endpoint
from deploy.bench.client import NOT_SENT, UNFINISHED, Outcome, Target, ask
from deploy.bench.figures import Slo, figures
from deploy.bench.prompts import Prompts
from deploy.bench.runner import Bounds, Run, Runner, Tally
from deploy.reach import Reach
from simulator.traces.request import Request, Trace
from tests.wire.bench_endpoint import REFUSED, Answering, Endpoint, Handler, four_tokens, serving
from tests.wire.served import until

pytestmark = pytest.mark.wire

BOUNDS = Bounds(100, 20.0)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Endpoint]:
    async with serving() as endpoint:
        yield endpoint


def request(number: int, at_s: float = 0.0) -> Request:
    return Request(number, at_s, 6, 4, (number,))


async def bench(
    served: Endpoint,
    *requests: Request,
    stop: asyncio.Event | None = None,
    timeout_s: float = 20.0,
    bounds: Bounds = BOUNDS,
    seen: list[Tally] | None = None,
) -> Run:
    target = Target(served.url, "tiny", timeout_s=timeout_s)
    tallies = [] if seen is None else seen
    async with endpoint.session(Reach(served.url)) as session:
        runner = Runner(session, target, Prompts("s"), bounds, tallies.append)
        return await runner.run(Trace("t", requests), stop or asyncio.Event())


def failures(run: Run) -> list[str]:
    return [outcome.failure for outcome in run.outcomes]


async def test_known_delays_are_what_is_measured(served: Endpoint) -> None:
    clock, outcome = ManualClock(), Outcome(0, 0.0, 0.0, 6)

    async def paced(answer: Answering) -> web.StreamResponse:
        for number, seconds in enumerate((0.25, 0.5, 0.125)):
            clock.advance(seconds)
            await answer.token()
            await until(lambda n=number: outcome.ttft_s is not None and len(outcome.gaps_s) == n)
        clock.advance(1.0)
        return await answer.end()

    served.handler = paced
    target = Target(served.url, "tiny")
    async with endpoint.session(Reach(served.url)) as session:
        await ask(session, target, target.body([1, 2], 4), outcome, clock)
    assert outcome.failure == ""
    assert (outcome.ttft_s, list(outcome.gaps_s), outcome.total_s) == (0.25, [0.5, 0.125], 1.875)
    # Four tokens came in three chunks: the endpoint's own count decides.
    assert outcome.tpot_s == pytest.approx(0.625 / 3)
    assert (outcome.input_tokens, outcome.output_tokens, outcome.cached_tokens) == (7, 4, 5)


async def test_nobody_waits_for_anybody(served: Endpoint) -> None:
    """An open loop: all are sent although none is answered."""
    everybody = asyncio.Event()

    async def held(answer: Answering) -> web.StreamResponse:
        if len(served.bodies) == 20:
            everybody.set()
        await everybody.wait()
        return await four_tokens(answer)

    served.handler = held
    seen: list[Tally] = []
    run = await bench(served, *(request(i, i / 1000) for i in range(20)), seen=seen)
    found = figures(run, Slo(), 0.0, 1.0)
    assert (found.requests, found.completed, found.output_tokens) == (20, 20, 80)
    assert (seen[-1].sent, seen[-1].ended, seen[-1].failed) == (20, 20, 0)
    prompts = [tuple(body["prompt"]) for body in served.bodies]
    assert len(set(prompts)) == 20
    assert {len(prompt) for prompt in prompts} == {6}
    assert served.bodies[0]["ignore_eos"] is True
    assert served.bodies[0]["max_tokens"] == 4


async def test_no_request_waits_for_the_prompt_of_the_next(served: Endpoint) -> None:
    arrived, made = threading.Event(), []

    class Slow(Prompts):
        def of(self, request: Request) -> list[int] | str:
            if request.number:
                made.append(arrived.wait(10))
            return super().of(request)

    async def arriving(answer: Answering) -> web.StreamResponse:
        arrived.set()
        return await four_tokens(answer)

    served.handler = arriving
    async with endpoint.session(Reach(served.url)) as session:
        target = Target(served.url, "tiny")
        runner = Runner(session, target, Slow("s"), BOUNDS, lambda _: None)
        run = await runner.run(Trace("t", (request(0), request(1))), asyncio.Event())
    assert (failures(run), made) == (["", ""], [True])


async def test_a_request_is_sent_when_it_leaves(served: Endpoint) -> None:
    """What held it up on this machine makes it late."""
    clock = ManualClock()
    async with endpoint.session(Reach(served.url)) as session:
        target = Target(served.url, "tiny")
        busy = Runner(session, target, Prompts("s"), BOUNDS, lambda _: clock.advance(0.25), clock)
        run = await busy.run(Trace("t", (request(0),)), asyncio.Event())
    assert run.outcomes[0].sent_s == 0.25


async def test_failures_are_told_apart(served: Endpoint) -> None:
    async def various(answer: Answering) -> web.StreamResponse:
        which = len(served.bodies)
        if which == 1:
            return web.json_response(REFUSED, status=429, headers={"Retry-After": "3"})
        if which == 2:
            await answer.token()
            answer.die()
        elif which == 3:
            answer.die()
        elif which == 4:
            await answer.token()
            await answer.event(REFUSED)
            return await answer.end()
        elif which == 5:
            await answer.token()
        elif which == 6:
            return await answer.end({"prompt_tokens": 6, "completion_tokens": 0})
        elif which == 7:
            await asyncio.sleep(60)
        return answer.response

    served.handler = various
    run = Run()
    for number in range(7):
        one = await bench(served, request(number), timeout_s=0.3)
        run.outcomes += one.outcomes
    assert failures(run) == [
        "HTTP 429 queue_full",
        "stream broken off",
        "connection lost",
        "error in the stream queue_full",
        "stream broken off",
        "empty answer",
        "timeout",
    ]
    found = figures(run, Slo(), 0.0, 1.0)
    assert found.completed == 0
    refused = found.failures["HTTP 429 queue_full"]
    assert (refused.retry_after_s, refused.example) == (3.0, "all full")


async def test_an_endpoint_that_dies_midway(served: Endpoint) -> None:
    async def dying(answer: Answering) -> web.StreamResponse:
        await answer.token()
        await until(lambda: len(served.bodies) == 3)
        answer.die()
        served.handler = four_tokens
        return answer.response

    served.handler = dying
    run = await bench(served, *(request(i) for i in range(3)), request(3, 0.5))
    assert failures(run) == ["stream broken off"] * 3 + [""]
    served.url = "http://127.0.0.1:9"
    assert failures(await bench(served, request(0))) == ["no connection"]


async def test_what_is_too_much_is_not_sent(served: Endpoint) -> None:
    go = asyncio.Event()

    async def held(answer: Answering) -> web.StreamResponse:
        await go.wait()
        return await four_tokens(answer)

    served.handler = held
    seen: list[Tally] = []

    class Releases(list[Tally]):
        def append(self, tally: Tally) -> None:
            seen.append(tally)
            if tally.failed == 3:
                go.set()

    run = await bench(
        served, *(request(i) for i in range(5)), bounds=Bounds(2, 20.0), seen=Releases()
    )
    assert sorted(failures(run)) == ["", "", NOT_SENT, NOT_SENT, NOT_SENT]
    assert len(served.bodies) == 2


async def test_the_end_by_hand_and_by_time(served: Endpoint) -> None:
    async def never(answer: Answering) -> web.StreamResponse:
        await answer.token()
        await asyncio.sleep(60)
        return answer.response

    served.handler = never
    run = await bench(served, request(0), request(1, 50.0), bounds=Bounds(9, 0.2))
    assert (failures(run), run.interrupted) == ([UNFINISHED], False)
    assert 0 < run.outcomes[0].total_s <= run.took_s < 10
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    run = await bench(served, request(0), request(1, 50.0), stop=stop)
    assert (failures(run), run.interrupted) == ([UNFINISHED], True)
    assert run.took_s < 10


async def test_the_first_request_tells_what_is_wrong(served: Endpoint) -> None:
    async def refusing(_: Answering) -> web.StreamResponse:
        error = {"error": {"message": "what is ignore_eos?", "code": None, "type": "invalid"}}
        return web.json_response(error, status=400)

    async def first(handler: Handler) -> Prompts:
        served.handler = handler
        async with endpoint.session(Reach(served.url)) as session:
            return await endpoint.tried(session, Target(served.url, "tiny"), "s", words=True)

    with pytest.raises(StartupError, match=r"HTTP 400 invalid.*what is ignore_eos"):
        await first(refusing)
    served.key = "right"
    with pytest.raises(BatonError) as refused:
        await first(four_tokens)
    assert refused.value.reason is Reason.UNAUTHENTICATED


async def test_words_and_what_a_chat_template_adds_are_told_apart(served: Endpoint) -> None:
    """Of any prompt 40 tokens are the template's; five tokens are four words."""

    def counted(answer: Answering) -> int:
        (message,) = answer.body["messages"]
        return 40 + len(message["content"].split()) * 5 // 4

    async def counting(answer: Answering) -> web.StreamResponse:
        await answer.token()
        return await answer.end({"prompt_tokens": counted(answer), "completion_tokens": 1})

    served.handler = counting
    target = Target(served.url, "tiny", chat=True)
    async with endpoint.session(Reach(served.url)) as session:
        prompts = await endpoint.tried(session, target, "s", words=True)
        asked = Request(0, 0.0, 1000, 1, (1, 2))
        outcome = Outcome(0, 0.0, 0.0, 1000)
        await ask(session, target, target.body(prompts.of(asked), 1), outcome, ManualClock())
        assert outcome.input_tokens == pytest.approx(1000, abs=2)
        assert prompts.least_tokens == 41
        # The longer of the first two prompts fits into a short context.
        served.bodies.clear()
        await endpoint.tried(session, target, "s", words=True, context_tokens=96)
    assert [len(b["messages"][0]["content"].split()) for b in served.bodies] == [16, 32]


async def command(*words: str) -> int:
    """In a thread: it has an event loop of its own."""
    return await asyncio.to_thread(cli.main, ["bench", *words])


@pytest.fixture
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers of signals can be set in the main thread only."""
    monkeypatch.setattr("deploy.bench.command.on_interrupt", lambda _: None)


@pytest.mark.usefixtures("no_signals")
async def test_the_command(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "bench.html"
    words = [f"{served.url}/v1", "--mix", "90:9", "--rate", "50", "--requests", "12"]
    words += ["--warmup", "0", "--html", str(report)]
    assert await command(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["requests"], found["completed"], found["failed"]) == (12, 12, 0)
    assert (found["model"], found["shortened"], found["output_tokens"]) == ("tiny", 12, 48)
    assert found["latency_s"]["ttft"]["count"] == 12
    assert "<svg" in report.read_text()
    # The context is 64: the answer keeps its 9 tokens, the prompt gets the rest.
    assert {len(body["prompt"]) for body in served.bodies[1:]} == {55}

    assert await command(*words, "--chat", "--slo", "ttft=10", "--no-ignore-eos") == 0
    out = capsys.readouterr().out
    assert "12 requests in" in out
    assert "100.0% of all (TTFT within 10 s)" in out
    assert served.paths[-1] == "/v1/chat/completions"
    assert "ignore_eos" not in served.bodies[-1]


async def test_ctrl_c_ends_the_command_until_the_load_begins(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []
    put = "deploy.bench.command.on_interrupt"
    monkeypatch.setattr(put, lambda _: answered.append(len(served.bodies)))
    assert await command(served.url, "--mix", "9:4", "--rate", "50", "--requests", "1") == 0
    assert answered == [1]


@pytest.mark.usefixtures("no_signals")
async def test_errors_before_the_load(served: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("http://127.0.0.1:9") == 1
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert await command(served.url, "--model", "huge") == 1
    assert "does not serve huge; it has: tiny, other" in capsys.readouterr().err
    served.key = "right"
    assert await command(served.url) == 1
    assert "401" in capsys.readouterr().err
    assert await command(served.url, "--html", "/no/such/folder/x.html") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert served.bodies == []
