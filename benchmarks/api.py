"""What the ways to Baton's API cost: processor time per streamed token, and time to first token.

usage: python -m benchmarks.api [--quick] [--json FILE]
The worker is played (`benchmarks.api_worker`): it computes nothing, answers at once, and either
never waits between steps or takes one every 20 ms. Everything else is real: a router process for
each way, its front-end processes where it has some, gRPC to the worker, HTTP or gRPC to the
clients. The ways take turns: vLLM's Rust front end, its Python server in the router, the router's
gRPC service, direct streams from the worker past the router, and two routers at one port; and, for
comparison, the Rust front end alone, with the played engine right behind it (`rust_alone_...`).
Processor time is that of the routers and of all that they have started, from the kernel's books, in
microseconds per token that a client got. The cheapest ways, past the router or through the Rust
front end, give longer answers (`..._tokens_per_answer`), or their cost would drown; what an answer
costs whatever its length weighs less there.
`..._ttft_ms` is the median time from sending a one-token request to its text; the worker asked in
its own protocol, without a router, takes `worker_ttft_ms` of it, and `..._added_ttft_ms` is the
rest. Without --quick there are four routers at a port, too, one stream and
256 at once, and `beside_vllm`: a router next to vLLM's own server, each with a real engine
(`benchmarks.front`). The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from baton.messages import ClusterView
from baton.settings import Settings, process_environ
from benchmarks import front, nodes
from benchmarks.api_client import BareWorker, GrpcStreams, OpenAiStreams, Players, Times
from benchmarks.api_worker import work, work_alone
from benchmarks.cpu_time import cpu_s
from benchmarks.outputs import command, tell
from deploy.model import DEMO_NAME, resolved
from deploy.port import hold, hold_grpc, on_port

STREAMS = 64
PACE_S = 0.02
_TOKENS_MAX = 4000
_NAMES = {2: "two", 4: "four"}


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int
    free_tokens: int
    paced_tokens: int
    probes: int
    widths: tuple[int, ...] = ()
    """Other numbers of streams at once."""
    routers: tuple[int, ...] = (2,)
    """At one port."""
    beside_vllm: bool = False


QUICK = Size(2, 200, 128, 25)
FULL = Size(7, 200, 150, 150, (1, 256), (2, 4), beside_vllm=True)


@dataclass(frozen=True, slots=True)
class Site:
    """Routers that share a port, and where clients find them."""

    url: str
    pids: tuple[int, ...]


class Way:
    """A way to the API: the routers that it needs, and a client. Others override what differs.

    `longer`: how many times as many tokens it takes to be measured as well as the dearest. Ways
    whose routers are set alike share them.
    """

    target: Callable[..., None] = staticmethod(nodes.route)
    """What runs as a router."""
    carries = True
    """Whether every token passes a router."""

    def __init__(self, name: str, longer: int = 1, routers: int = 1, **router: Any) -> None:
        self.name = name
        self.longer = longer
        self.routers = routers
        self.router = router

    @property
    def key(self) -> str:
        """The same for ways that share routers."""
        return json.dumps([self.target.__name__, self.routers, self.router])

    def settings(self) -> Settings:
        """The routers'."""
        router = {"port": 0, "disaggregate": "never", "ask": "never", "ui": False, **self.router}
        return Settings.model_validate({"router": router, "admission": {"shed_at": 0.0}})

    def paced_tokens(self, size: Size) -> int:
        """Of one answer. The dear ways are measured well enough with half."""
        return size.paced_tokens // 2

    async def connect(self, site: Site) -> Any:
        """A client that can have all streams at once."""
        client = OpenAiStreams(site.url)
        await client.open(max(STREAMS, *FULL.widths))
        return client


class RustWay(Way):
    """vLLM's Rust front end before the router."""

    def __init__(self, name: str) -> None:
        binary = process_environ().get("VLLM_RUST_FRONTEND_PATH")
        super().__init__(name, longer=3, front="rust", rust_front_path=binary)

    def paced_tokens(self, size: Size) -> int:
        return size.paced_tokens


class AloneWay(RustWay):
    """The same without router and worker."""

    target = staticmethod(work_alone)
    carries = False


class GrpcWay(Way):
    """The gRPC service of the router itself; with `direct`, the worker's tokens go past it.

    What a direct answer costs the router is per answer, not per token.
    """

    def __init__(self, name: str, *, direct: bool = False, longer: int = 1) -> None:
        # As plain HTTP's, whose routers it shares.
        setting = {"direct": True} if direct else {}
        super().__init__(name, longer, front="in-process", **setting)
        self.carries = not direct

    async def connect(self, site: Site) -> Any:
        """One connection carries all streams."""
        with await asyncio.to_thread(urlopen, f"{site.url}/status", timeout=10) as answer:
            return GrpcStreams(json.load(answer)["grpc"], direct=not self.carries)


def ways(size: Size) -> list[Way]:
    """Those that are measured."""
    return [
        RustWay("rust_path"),
        AloneWay("rust_alone"),
        Way("http", front="in-process"),
        GrpcWay("grpc"),
        GrpcWay("direct", longer=3, direct=True),
        *(Way(f"{_NAMES[n]}_processes", routers=n, front="in-process") for n in size.routers),
    ]


@dataclass(slots=True)
class Served:
    """A running router and its client."""

    way: Way
    pids: tuple[int, ...]
    client: Any
    players: Players
    free_us: list[float] = field(default_factory=list)
    front_end_us: list[float] = field(default_factory=list)
    """The part of processes that the router has started."""
    paced_us: list[float] = field(default_factory=list)
    paced_front_end_us: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    by_width: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """At other numbers of streams: microseconds per token, and tokens per second."""

    def cpu_s(self) -> float:
        """Of the router and of what it has started."""
        return sum(cpu_s(one) for pid in self.pids for one in _family(pid))

    def own_s(self) -> float:
        """Of the router alone."""
        return sum(map(cpu_s, self.pids))

    async def streams(self, tokens: int, width: int = STREAMS) -> tuple[float, float, float]:
        """Processor time per token in microseconds, the front ends' part, and tokens per second."""
        self.players.play(streams=width)
        cpu_s, own_s, began = self.cpu_s(), self.own_s(), time.perf_counter()
        await self.client.together(width, tokens)
        wall_s, count = time.perf_counter() - began, width * tokens
        whole_s, own_s = self.cpu_s() - cpu_s, self.own_s() - own_s
        return whole_s / count * 1e6, (whole_s - own_s) / count * 1e6, count / wall_s

    async def wide(self, width: int, tokens: int) -> None:
        """The same at another number of streams."""
        # As many tokens in all, or one stream would be over at once.
        each = max(tokens * STREAMS // width, 1)
        cost_us, _, rate = await self.streams(min(each, _TOKENS_MAX), width)
        self.by_width.setdefault(width, []).append((cost_us, rate))

    async def probe(self) -> None:
        self.players.play(streams=1)
        times: list[Times] = await self.client.together(1, 1)
        self.first_ms.append(times[0].first_s * 1e3)


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        found += [one for child in children for one in _family(int(child))]
    return found


async def measure(
    players: Players, address: str, sites: list[tuple[Way, Site]], size: Size
) -> tuple[list[Served], float]:
    """All ways in turn, which of them begins changing every time; and the bare TTFT, in ms."""
    bare, bare_ms = BareWorker(address), []
    served = [Served(way, site.pids, await way.connect(site), players) for way, site in sites]
    for one in served:
        await one.streams(32)
    for turn in range(size.rounds):
        order = served if turn % 2 == 0 else served[::-1]
        for one in order:
            cost_us, front_end_us, rate = await one.streams(size.free_tokens * one.way.longer)
            one.free_us.append(cost_us)
            one.front_end_us.append(front_end_us)
            one.tokens_per_s.append(rate)
        for width, one in itertools.product(size.widths, order):
            await one.wide(width, size.free_tokens)
        players.play(streams=1)
        for _ in range(size.probes):
            bare_ms.append(await bare.first_s() * 1e3)
            for one in order:
                await one.probe()
        players.play(pace_s=PACE_S)
        for one in order:
            cost_us, front_end_us, _ = await one.streams(one.way.paced_tokens(size))
            one.paced_us.append(cost_us)
            one.paced_front_end_us.append(front_end_us)
        players.play(pace_s=0.0)
        print(f"round {turn + 1} of {size.rounds} done", flush=True)
    for one in served:
        await one.client.aclose()
    await bare.aclose()
    return served, median(bare_ms)


def result(served: list[Served], worker_ms: float, size: Size) -> dict[str, float]:
    """Medians, by way."""
    figures: dict[str, float] = {"worker_ttft_ms": worker_ms}
    for one in served:
        name = one.way.name
        figures[f"{name}_cpu_us_per_token"] = median(one.free_us)
        figures[f"{name}_front_end_cpu_us_per_token"] = median(one.front_end_us)
        figures[f"{name}_paced_cpu_us_per_token"] = median(one.paced_us)
        figures[f"{name}_paced_front_end_cpu_us_per_token"] = median(one.paced_front_end_us)
        figures[f"{name}_ttft_ms"] = median(one.first_ms)
        figures[f"{name}_added_ttft_ms"] = median(one.first_ms) - worker_ms
        figures[f"{name}_tokens_per_s"] = median(one.tokens_per_s)
        figures[f"{name}_tokens_per_answer"] = size.free_tokens * one.way.longer
        for width, seen in one.by_width.items():
            figures[f"{name}_{width}_streams_cpu_us_per_token"] = median(cost for cost, _ in seen)
            figures[f"{name}_{width}_streams_tokens_per_s"] = median(rate for _, rate in seen)
    figures["tokens_per_s_per_router"] = max(
        median(one.tokens_per_s) / one.way.routers for one in served if one.way.carries
    )
    several = ((f"{_NAMES[n]}_process", f"{_NAMES[n]}_processes") for n in size.routers)
    for name, way in (("grpc", "grpc"), ("direct", "direct"), *several):
        for pace in ("", "_paced"):
            cost, http = (figures[f"{w}{pace}_cpu_us_per_token"] for w in (way, "http"))
            figures[f"{name}{pace}_cpu_ratio"] = cost / http
    return {name: round(value, 3) for name, value in figures.items()} | {"streams": STREAMS}


@contextmanager
def running(chosen: list[Way]) -> Iterator[tuple[Players, str, list[tuple[Way, Site]]]]:
    """Those who play engines, the worker's address, and the routers of each way."""
    with ExitStack() as stack:
        worker = nodes.start(work, DEMO_NAME)
        stack.callback(worker.end)
        started: dict[str, list[nodes.Child]] = {}
        for way in chosen:
            if way.key not in started:
                started[way.key] = list(_start(way, stack))
        info = worker.word()
        view = nodes.view_of([info])
        sites = {key: _site(routers, view) for key, routers in started.items()}
        alone = [one for way in chosen if isinstance(way, AloneWay) for one in started[way.key]]
        yield Players([worker, *alone]), info.address, [(way, sites[way.key]) for way in chosen]


def _start(way: Way, stack: ExitStack) -> Iterator[nodes.Child]:
    settings = way.settings()
    # Held until the end, so that all get the same ports.
    held = stack.enter_context(hold(settings)), stack.enter_context(hold_grpc(settings))
    dump = resolved(on_port(settings, *held)).model_dump()
    for _ in range(way.routers):
        router = nodes.start(way.target, dump, "digest")
        stack.callback(router.end)
        yield router


def _site(routers: list[nodes.Child], view: ClusterView) -> Site:
    urls = [router.word().ready_url for router in routers]
    for router in routers:
        router.pipe.send(view)
        router.word()
    return Site(urls[0], tuple(router.process.pid or 0 for router in routers))


def main(argv: list[str] | None = None) -> int:
    args = command(__doc__, "a short run: under a minute").parse_args(argv)
    started = time.monotonic()
    size = QUICK if args.quick else FULL
    with running(ways(size)) as (players, address, sites):
        print(f"all routers are up after {time.monotonic() - started:.1f} s", flush=True)
        served, worker_ms = asyncio.run(measure(players, address, sites, size))
    figures: dict[str, Any] = result(served, worker_ms, size)
    if size.beside_vllm:
        figures["beside_vllm"] = front.compared(front.QUICK)
    tell(figures, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
