"""What a worker tells of its cache and its costs is what its engine has and does."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from baton import prefix_keys
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from benchmarks.engines import (
    PULL,
    PUSH,
    SETTINGS,
    STOP_S,
    Setup,
    Started,
    launch,
    until_ready,
)
from benchmarks.legs import NUMBERS, encoded
from tests.engine.prompts import BLOCK, prompt

FEW_BLOCKS = 0.04
"""GiB: about forty blocks of the demo model."""
PLAIN = prefix_keys.salt("demo")


def setup(transfer: dict[str, Any], **engine: Any) -> Setup:
    settings = {
        **SETTINGS,
        "model": {**SETTINGS["model"], "max_model_len_tokens": 1024},
        "engine": {**SETTINGS["engine"], "kv_cache_gib": FEW_BLOCKS, **engine},
    }
    return Setup(transfer, settings)


SETUPS = {
    "ahead": setup(PUSH),
    "in step": setup(PULL, extra_args={"async_scheduling": False}),
    "no caching": setup(PUSH, prefix_caching=False),
}


@pytest.fixture(scope="module", params=["ahead", "in step"])
def worker(request: pytest.FixtureRequest) -> Iterator[Started]:
    """One worker whose cache is small, scheduling a step ahead or not."""
    yield from started(SETUPS[request.param])


def started(how: Setup) -> Iterator[Started]:
    context = multiprocessing.get_context("spawn")
    worker = until_ready(*launch(context, "prefill-0", "prefill", 0, how))
    yield worker
    worker.control.send("stop")
    worker.process.join(STOP_S)
    worker.process.kill()


class Router:
    """A link that adds up what it hears."""

    def __init__(self, worker: Started) -> None:
        self.info = worker.info
        self.channel = grpc.aio.insecure_channel(worker.info.address)
        self.held: set[int] = set()
        self.number = 0
        self.costs = wire.Costs()
        self.load = wire.Load()
        self.heard = asyncio.Condition()
        self.cached: dict[str, int] = {}
        self.answers: dict[str, wire.Answer] = {}
        self.idle = False

    async def open(self) -> None:
        self.call: Any = wire_grpc.WorkerStub(self.channel).Link()
        hello = wire.Hello(router_id=f"r{next(NUMBERS)}", config_digest=self.info.config_digest)
        await self.call.write(wire.RouterMessage(hello=hello))
        self.listening = asyncio.create_task(self.listen())
        await self.until(lambda: self.number > 0)

    async def close(self) -> None:
        self.listening.cancel()
        self.call.cancel()
        await self.channel.close()

    async def listen(self) -> None:
        async for frame in self.call:
            self.hear(frame)
            async with self.heard:
                self.heard.notify_all()

    def hear(self, frame: wire.StepFrame) -> None:
        cache = frame.cache
        says = bool(cache.stored or cache.removed or cache.full)
        assert cache.number == self.number + says
        self.number = cache.number
        before = set() if cache.full else self.held
        assert before.issuperset(cache.removed)
        assert before.isdisjoint(cache.stored)
        self.held = before.union(cache.stored).difference(cache.removed)
        self.load = frame.load
        self.idle = not (frame.load.running or frame.load.waiting)
        self.cached.update({p.leg_id: p.cached_tokens for p in frame.prefilled})
        self.answers.update({a.leg_id: a for a in frame.answers})
        if frame.HasField("costs"):
            self.costs = frame.costs

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.heard:
            await self.heard.wait_for(done)

    async def until_held(self, wanted: set[int]) -> None:
        await self.until(lambda: wanted <= self.held)

    async def probe(self, tokens: tuple[int, ...], start: int = PLAIN) -> tuple[str, wire.Answer]:
        leg_id = f"r{next(NUMBERS)}.0.s"
        blocks = prefix_keys.of_tokens(tokens, BLOCK, start)
        probe = wire.Probe(leg_id=leg_id, prompt_tokens=len(tokens), blocks=blocks, hold_s=0.5)
        await self.call.write(wire.RouterMessage(probe=probe))
        await self.until(lambda: leg_id in self.answers)
        return leg_id, self.answers[leg_id]

    async def submit(
        self, tokens: tuple[int, ...], max_tokens: int = 1, salt: str = "", leg_id: str = ""
    ) -> str:
        leg_id = leg_id or f"r{next(NUMBERS)}.0.s"
        submit = wire.Submit(
            leg_id=leg_id,
            kind=wire.LEG_SOLO,
            request=encoded(tokens, max_tokens, salt),
            prompt_tokens=len(tokens),
            blocks=prefix_keys.of_tokens(tokens, BLOCK, prefix_keys.salt("demo", "", salt)),
        )
        await self.call.write(wire.RouterMessage(submit=submit))
        return leg_id

    async def run(self, *prompts: tuple[int, ...], max_tokens: int = 1, salt: str = "") -> None:
        """All of them at once, to the end."""
        legs = [await self.submit(tokens, max_tokens, salt) for tokens in prompts]
        await self.until(lambda: self.idle and all(leg in self.cached for leg in legs))


@pytest_asyncio.fixture
async def router(worker: Started) -> AsyncIterator[Router]:
    router = Router(worker)
    await router.open()
    yield router
    await router.close()


def keys(tokens: tuple[int, ...], salt: str = "") -> set[int]:
    return set(prefix_keys.of_tokens(tokens, BLOCK, prefix_keys.salt("demo", "", salt)))


async def test_the_cache_holds_the_keys_that_a_router_computes(router: Router) -> None:
    before = set(router.held)
    one, other = prompt(3 * BLOCK + 5, 1), prompt(2 * BLOCK + 7, 2)
    await router.run(one, one, other)
    await router.run(one, salt="tenant")
    wanted = keys(one) | keys(other) | keys(one, "tenant")
    assert len(wanted) == 8
    await router.until(lambda: router.held - before == wanted)


async def test_generated_tokens_make_blocks_too(router: Router) -> None:
    tokens = prompt(BLOCK - 10, 3)
    before = set(router.held)
    await router.run(tokens, max_tokens=20)
    await router.until(lambda: len(router.held - before) == 1)


async def test_what_is_evicted_is_told_and_a_new_router_hears_the_same(
    worker: Started, router: Router
) -> None:
    first = prompt(4 * BLOCK + 1, 10)
    await router.run(first)
    await router.until(lambda: router.held >= keys(first))
    everything = [prompt(7 * BLOCK + 1, seed) for seed in range(11, 11 + 12)]
    for tokens in everything:
        await router.run(tokens)
    assert router.held.isdisjoint(keys(first))
    assert 0 < len(router.held) <= worker.info.kv_blocks
    assert router.held <= set().union(*map(keys, everything))
    second = Router(worker)
    await second.open()
    assert second.held == router.held
    await second.close()


async def test_a_probe_knows_what_the_engine_will_find_cached(router: Router) -> None:
    shared = prompt(5 * BLOCK, 40)
    prompts = [shared[: 3 * BLOCK], shared, shared, shared[:200], (*shared[:300], 5, 6, 7)]
    for number, tokens in enumerate(prompts):
        leg_id, answer = await router.probe(tokens)
        assert answer.refused == ""
        assert answer.ttft_s > answer.queue_s >= 0
        await router.submit(tokens, leg_id=leg_id)
        await router.until(lambda leg_id=leg_id: leg_id in router.cached)
        assert answer.cached_tokens == router.cached[leg_id], number
    assert answer.cached_tokens == 2 * BLOCK


async def test_costs_are_learned_from_what_the_engine_does(router: Router) -> None:
    before = router.costs.decode.samples
    for seed in range(60, 90):
        await router.run(prompt(100 + 13 * (seed % 60), seed), max_tokens=5)
    await router.until(lambda: router.costs.decode.samples >= before + 60)
    for name in ("prefill", "decode"):
        fit = getattr(router.costs, name)
        print(f"{name}: {list(fit.coefficients)} after {fit.samples}, error {fit.error:.2f}")
        assert fit.samples >= 30
        assert 0 < fit.error < 1.5
    fixed_s, token_s, pair_s = router.costs.prefill.coefficients
    assert 0 < fixed_s + 500 * token_s + 500 * 250 * pair_s < 5
    await router.until(lambda: router.load.queue_s == 0)


async def test_a_queue_has_seconds(router: Router) -> None:
    legs = [await router.submit(prompt(900, seed)) for seed in range(200, 206)]
    await router.until(lambda: router.load.queue_s > 0)
    await router.until(lambda: all(leg in router.cached for leg in legs))
    await router.until(lambda: router.load.queue_s == 0)


async def test_without_prefix_caching_nothing_is_held() -> None:
    for worker in started(SETUPS["no caching"]):
        router = Router(worker)
        await router.open()
        for _ in range(2):
            await router.run(prompt(3 * BLOCK, 1))
        assert (router.held, router.number) == (set(), 1)
        await router.close()
