"""Where a first token's time went, from workers' words to headers, stories and metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

from baton.messages import Dispatch, Role
from baton.wire import worker_pb2 as pb
from router.exchange import ARRIVED_KEY
from router.heart import Heart
from router.listen import bind, serve
from router.metrics import RouterMetrics
from router.split import Part
from tests.wire.fake_worker import FakeWorker
from tests.wire.fakes import encode
from tests.wire.whole import whole_router

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="module")]
TOKENS = 4
PROMPT = pb.LegTimes(queue_s=0.003, compute_s=0.02)
ANSWER = pb.LegTimes(room_s=0.001, fetch_s=0.03, queue_s=0.002, compute_s=0.008)
STEP_S = 0.004


def answer(submit: pb.Submit) -> Iterable[pb.StepFrame]:
    """As a worker that pushes KV answers both legs."""
    if submit.kind == pb.LEG_PREFILL:
        yield pb.StepFrame(prefilled=[pb.Prefilled(leg_id=submit.leg_id, times=PROMPT)])
        return
    for index in range(TOKENS):
        first = [pb.Prefilled(leg_id=submit.leg_id, times=ANSWER)] if index == 0 else []
        last = FinishReason.LENGTH if index == TOKENS - 1 else None
        outputs = [EngineCoreOutput(submit.leg_id, [1000 + index], finish_reason=last)]
        yield pb.StepFrame(
            outputs=encode(EngineCoreOutputs(outputs=outputs)),
            prefilled=first,
            load=pb.Load(steps_s=STEP_S * index),
        )


@dataclass
class House:
    """A router with its HTTP server, and fake workers."""

    heart: Heart
    prefill: FakeWorker
    decode: FakeWorker
    client: httpx.AsyncClient
    metrics: RouterMetrics

    def sum_of(self, name: str, part: str) -> float:
        return self.metrics.registry.get_sample_value(f"baton_{name}_sum", {"part": part}) or 0.0

    def count_of(self, name: str, part: str) -> float:
        return self.metrics.registry.get_sample_value(f"baton_{name}_count", {"part": part}) or 0.0


@asynccontextmanager
async def workers() -> AsyncIterator[tuple[FakeWorker, FakeWorker]]:
    push = {"dispatch": Dispatch.CONCURRENT}
    async with (
        FakeWorker(answer, worker_id="p", role=Role.PREFILL, **push) as prefill,
        FakeWorker(answer, worker_id="d", role=Role.DECODE, **push) as decode,
    ):
        # Long enough for what the workers say of themselves.
        prefill.step_s, decode.step_s = 0.025, 0.05
        yield prefill, decode


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    chosen = {"router": {"policy": "least_loaded", "disaggregate": "always"}}
    async with workers() as (prefill, decode), whole_router(chosen) as whole:
        server = await serve(whole.app, bind("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.port}"
        await whole.introduce(prefill, decode)
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield House(whole.heart, prefill, decode, client, whole.metrics)
            await server.stop(1)


async def ask(house: House, *, tell: bool = True, **body: object) -> httpx.Response:
    headers = {"x-baton-split": "1"} if tell else {}
    asked = {"model": "demo", "prompt": "Hello there", "max_tokens": TOKENS, **body}
    answer = await house.client.post("/v1/completions", json=asked, headers=headers)
    assert answer.status_code == 200
    return answer


def read(told: str) -> dict[str, float]:
    """Milliseconds by part."""
    found = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", told)}
    assert list(found) == [part.value for part in Part]
    return found


def check(found: dict[str, float], *, least_ms: float) -> None:
    """The workers' words are in it, and the rest is where the rule puts it."""
    words = {"prefill_queue": 3, "prefill_compute": 20, "decode_queue": 2, "first_decode_step": 8}
    assert {name: found[name] for name in words} == pytest.approx(words, abs=0.01)
    # 31 ms until the KV had come, 23 ms of which the prompt was computed.
    assert found["exposed_transfer"] == pytest.approx(8, abs=0.01)
    assert sum(found.values()) >= least_ms


async def test_an_answer_in_one_piece_has_a_header(house: House) -> None:
    told = await ask(house)
    check(read(told.headers["x-baton-split"]), least_ms=50)
    assert "x-baton-split" not in (await ask(house, tell=False)).headers


async def test_a_stream_has_a_comment_after_its_first_chunk(house: House) -> None:
    first, comment, *rest = (await ask(house, stream=True)).text.split("\n\n")
    assert first.startswith("data: {")
    assert comment.startswith(": x-baton-split ")
    check(read(comment), least_ms=50)
    assert rest[-2:] == ["data: [DONE]", ""]
    assert len(rest) == TOKENS - 1 + 2
    assert ": " not in [line[:2] for line in rest]
    assert "x-baton-split" not in (await ask(house, tell=False, stream=True)).text


async def test_the_story_ends_with_it(house: House) -> None:
    named = await ask(house, stream=True)
    request_id = re.search(r'"id":"([\w-]+)"', named.text)[1]
    story = (await house.client.get(f"/story/{request_id}")).text
    last = story.strip().splitlines()[-1]
    assert re.match(r"  first token after [\d.]+ ms: admission_queue [\d.]+, prefill_queue 3", last)
    assert "first_decode_step 8.0" in last


async def test_every_request_counts_once_in_each_part(house: House) -> None:
    before = {part: house.count_of("ttft_part_seconds", part.value) for part in Part}
    compute = house.sum_of("ttft_part_seconds", "prefill_compute")
    step = house.sum_of("tpot_part_seconds", "step")
    waits = house.sum_of("tpot_part_seconds", "frame_wait")
    await ask(house, stream=True)
    await ask(house, tell=False)
    for part in Part:
        assert house.count_of("ttft_part_seconds", part.value) == before[part] + 2
    added = house.sum_of("ttft_part_seconds", "prefill_compute") - compute
    assert added == pytest.approx(0.04)
    added = house.sum_of("tpot_part_seconds", "step") - step
    assert added == pytest.approx(2 * STEP_S)
    # Frames come each 50 ms, of which the worker's steps take 4.
    assert house.sum_of("tpot_part_seconds", "frame_wait") - waits >= 2 * 0.02
    assert house.count_of("tpot_part_seconds", "write") >= 2


async def test_several_answers_to_one_request_count_each(house: House) -> None:
    before = house.count_of("ttft_part_seconds", "delivery")
    told = await ask(house, stream=True, n=2)
    assert told.text.count(": x-baton-split") == 1
    assert house.count_of("ttft_part_seconds", "delivery") == before + 2


async def test_the_server_notes_when_a_requests_first_bytes_came() -> None:
    arrived: list[float] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            arrived.append(scope[ARRIVED_KEY])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    server = await serve(app, bind("127.0.0.1", 0))
    try:
        before = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\n")
        await asyncio.sleep(0.1)
        rest = time.monotonic()
        # The rest of the request comes later: its coming began with its first line.
        writer.write(b"host: x\r\ncontent-length: 0\r\n\r\n")
        await reader.readline()
        assert before <= arrived[0] <= rest
        writer.close()
    finally:
        await server.stop(1)
