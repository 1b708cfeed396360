"""A whole router and real workers over played engines: tokens that follow from their positions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.serial_utils import MsgpackDecoder

from baton.clock import MonotonicClock
from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from baton.messages import ClusterView, Member, WorkerInfo, WorkerState
from baton.settings.tls import TlsSettings
from baton.wire.credentials import server_credentials
from deploy.direct import DirectServer
from engine.direct_text import Texts
from engine.ports import LegEnd, Moments, Step
from engine.resuming import check_resumed
from engine.service import WorkerServer
from engine.worker import Worker
from router.front import BatonFront
from router.heart import Heart
from router.metrics import RouterMetrics
from router.rpc import Place, RpcServer, serve
from router.rpc_requests import Requests
from tests.fakes.engine import FakeEngine
from tests.fakes.worker import LIMITS, info, roles
from tests.wire.fakes import encode
from tests.wire.http.support import TEXT, until
from tests.wire.whole import whole_router

_ENDS = {FinishReason.LENGTH: LegEnd.DONE, FinishReason.STOP: LegEnd.DONE}


@dataclass
class PlayedEngine(FakeEngine):
    """The n-th token of every answer is the n-th word, over and over, until `max_tokens`."""

    words: Sequence[int] = ()
    pace_s: float = 0.0
    live: dict[str, tuple[EngineCoreRequest, int]] = field(default_factory=dict)
    """With how many tokens of its answer there are."""
    work: asyncio.Event = field(default_factory=asyncio.Event)
    dead: bool = False

    def decode_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int] = (),
    ) -> Any:
        request = MsgpackDecoder(EngineCoreRequest).decode(payload)
        request.request_id = leg_id
        if resumed:
            check_resumed(request, resumed, self.facts)
        self.live[leg_id] = request, len(resumed)
        return request

    async def add(self, request: Any) -> None:
        self.added.append(request)
        self.work.set()

    async def abort(self, leg_ids: Sequence[str]) -> None:
        await super().abort(leg_ids)
        for leg_id in leg_ids:
            self.live.pop(leg_id, None)

    async def step(self) -> Step:
        while not self.live and not self.dead:
            self.work.clear()
            await self.work.wait()
        await asyncio.sleep(self.pace_s)
        if self.dead:
            raise BatonError(Reason.ENGINE_FAILED, "killed")
        return Step([self._token(leg_id) for leg_id in list(self.live)])

    def _token(self, leg_id: str) -> EngineCoreOutput:
        request, place = self.live[leg_id]
        whole = place + 1 == request.sampling_params.max_tokens
        if whole:
            del self.live[leg_id]
        else:
            self.live[leg_id] = request, place + 1
        reason = FinishReason.LENGTH if whole else None
        return EngineCoreOutput(leg_id, [self.words[place % len(self.words)]], finish_reason=reason)

    def die(self, message: str = "") -> None:
        self.dead = True
        self.work.set()

    def ended(self, output: Any) -> LegEnd | None:
        return None if output.finish_reason is None else _ENDS[output.finish_reason]

    def encode(self, outputs: Sequence[Any]) -> list[bytes]:
        self.told.append([list(output.new_token_ids) for output in outputs])
        return encode(EngineCoreOutputs(outputs=list(outputs)))

    told: list[list[list[int]]] = field(default_factory=list)
    """The tokens in each frame to a router."""

    def cached_tokens(self, output: Any) -> int:
        return 0

    def moments(self, output: Any) -> Moments:
        return Moments()


@dataclass
class Played:
    """A worker over a played engine, with its two ports."""

    name: str
    engine: PlayedEngine
    worker: Worker
    server: WorkerServer
    direct: DirectServer
    info: WorkerInfo

    @classmethod
    async def start(
        cls,
        name: str,
        words: Sequence[int],
        front: BatonFront,
        host: str = "127.0.0.1",
        tls: TlsSettings | None = None,
    ) -> Played:
        engine = PlayedEngine(words=words)
        texts = Texts(front.vllm_config)
        worker = Worker(engine, roles(), LIMITS, MonotonicClock(), lambda _: None, texts)
        server, direct = (
            WorkerServer(worker),
            DirectServer(worker.direct, server_credentials(tls or TlsSettings())),
        )
        port, address = server.bind("127.0.0.1"), await direct.start(host)
        own = replace(
            info(),
            worker_id=WorkerId(name),
            address=f"127.0.0.1:{port}",
            direct_address=f"{host}:{address}",
        )
        await server.start(own)
        return cls(name, engine, worker, server, direct, own)

    async def stop(self) -> None:
        """At once, as if it were killed."""
        await self.direct.stop(0)
        await self.server.stop(0)


@dataclass
class House:
    """The router and its workers."""

    front: BatonFront
    heart: Heart
    server: RpcServer
    workers: list[Played]
    metrics: RouterMetrics
    views: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def link(self) -> None:
        """Follow the workers as they are now."""
        self.views += 1
        infos = [one.info for one in self.workers]
        members = tuple(Member(i.worker_id, i.role, WorkerState.READY, i) for i in infos)
        self.heart.set_view(ClusterView(self.views, members))
        await until(lambda: all(w["up"] for w in self.heart.status()["workers"]))

    def output_tokens(self) -> float:
        """Those that the router has booked."""
        samples = (s for metric in self.metrics.registry.collect() for s in metric.samples)
        return sum(s.value for s in samples if s.name == "baton_output_tokens_total")

    def busy(self) -> Played:
        """The worker that has a leg."""
        return next(one for one in self.workers if one.worker.legs)


@asynccontextmanager
async def playing(tls: TlsSettings | None = None, **router: Any) -> AsyncIterator[House]:
    """Two workers, linked. With `tls` clients find them at an address that no certificate has."""
    chosen = {"disaggregate": "never", "policy": "least_loaded", "worker_silence_s": 60}
    async with whole_router({"router": {**chosen, "direct": True, **router}}, "digest") as whole:
        front, heart = whole.front, whole.heart
        place = Place("127.0.0.1", 0, server_credentials(tls or TlsSettings()))
        host = "127.0.0.1" if tls is None else "127.0.0.2"
        requests = Requests(front, whole.app.state)
        server = await serve(requests, whole.pages, whole.settings.router, place)
        words = front.renderer.tokenizer.encode(TEXT, add_special_tokens=False)
        names = ("decode-0", "decode-1")
        workers = [await Played.start(name, words, front, host, tls) for name in names]
        house = House(front, heart, server, workers, whole.metrics)
        await house.link()
        yield house
        await server.stop(0)
    for one in workers:
        await one.stop()
