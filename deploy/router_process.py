"""One router's process: the heart, its links to the workers, and vLLM's server before it.

A plain class that `cluster` turns into an actor; everything runs on an event loop in a thread of
its own. Whoever holds the port knows that it is free; it is listened on last, because the kernel
gives connections to every router that listens, ready or not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from prometheus_client import ProcessCollector
from starlette.types import ASGIApp

from baton.clock import MonotonicClock
from baton.errors import BatonError, Reason
from baton.ids import RouterId, router_digest
from baton.log import configure_logging
from baton.messages import ClusterView, WorkerInfo
from baton.settings import Settings, extend_process_environ
from baton.signals import RouterSignals
from baton.tasks import TaskFault
from baton.tls import server_context
from baton.wire.credentials import dialer
from cluster.addresses import listen_at, reached_at, spans_machines, with_port
from cluster.metrics import ClusterCollector, Told
from cluster.ports import RouterProgress, RouterRow, ScalingRow
from cluster.ray_nodes import leaving_here, own_address
from deploy.doorway import Doorway, Farewell
from deploy.handover import Offer, fetch
from deploy.imports import uncollected
from deploy.loop_thread import LoopThread, until
from deploy.model import model_path, resolved, served_name
from deploy.rpc import Rpc
from deploy.spans import close_spans, span_sink
from deploy.status_rows import member_row, router_row
from deploy.targets import targets
from engine import preflight
from engine.environment import engine_environment
from router.fronts import Fronts
from router.heart import Heart
from router.link import WorkerLink
from router.listen import HttpServer, bind, serve
from router.metrics import RouterMetrics
from router.own_pages import own_pages
from router.tracing import Tracing
from router.ui.board import Board, Sources
from router.wire import Identity, LinkEvents

if TYPE_CHECKING:
    from deploy.front_ends import FrontEnds
    from deploy.otlp import OtlpSink

_log = logging.getLogger("baton.router")
_MEET_WITHIN_S = 5.0
_SUCCEED_WITHIN_S = 30.0
"""A successor has time to meet all workers: its predecessor serves meanwhile."""
_ALONE_AFTER_S = 30.0
"""A controller that has not asked for so long has nobody follow this router."""
_LOOK_EVERY_S = 0.2
_STOPPED_WITHIN_S = 10.0
"""Without anybody to stop it, a router that has left ends by itself after this."""


class RouterProcess:
    """Implements `cluster.ports.RouterProcess`."""

    def __init__(self, settings_dump: Mapping[str, Any], router_id: str, digest: str) -> None:
        self._settings = resolved(Settings.model_validate(settings_dump))
        self._settings_digest = router_digest(settings_dump, digest)
        self._name = router_id
        # A restarted router is a new one to the workers.
        self._identity = Identity(RouterId(f"{router_id}-{os.getpid()}"), digest)
        self._dial = dialer(self._settings.tls)
        self._loop = LoopThread("router")
        self._rpc = Rpc(self._settings)
        self._url: str | None = None
        self._error: Mapping[str, str] | None = None
        self._heart: Heart | None = None
        self._http: HttpServer | FrontEnds | None = None
        self._fronts: FrontEnds | None = None
        self._board: Board | None = None
        self._own: HttpServer | None = None
        self._metrics_address = ""
        self._spans: OtlpSink | None = None
        self._limit_model: Any = None
        self._view: ClusterView | None = None
        self._routers: Sequence[RouterRow] = ()
        self._scaling: ScalingRow | None = None
        self._offer: Offer | None = None
        self._doorway: Doorway | FrontEnds | None = None
        self._withdrawn = False
        self._leaving = self._refuses = False
        self._asked_at = self._told_at = time.monotonic()

    # -- called by the controller

    def start(self, door: str = "") -> None:
        log = self._settings.log
        configure_logging(log.level, log.format, per_second=log.per_second)
        self._loop.start(lambda: self._start(door), self._failed)

    def progress(self) -> RouterProgress:
        self._asked_at = time.monotonic()
        return RouterProgress(
            self._url,
            self._error,
            self._error is None,
            # One that refuses clients cannot be made to take them again.
            self._leaving or self._withdrawn or self._refuses,
            -1 if self._view is None else self._view.version,
            self._settings_digest,
            self._metrics_address,
        )

    def set_view(
        self,
        view: ClusterView,
        routers: Sequence[RouterRow] = (),
        scaling: ScalingRow | None = None,
    ) -> None:
        self._routers, self._scaling, self._told_at = routers, scaling, time.monotonic()
        self._loop.call(self._set_view, view)

    def status(self) -> dict[str, Any]:
        return {} if self._heart is None else self._heart.status()

    def signals(self) -> RouterSignals | None:
        return None if self._heart is None else self._heart.signals()

    def drain(self, timeout_s: float) -> None:
        self._refuses = True
        if self._heart is not None:
            self._loop.call(self._heart.drain)

    def drained(self) -> bool:
        return self._heart is None or self._heart.inflight == 0

    def offer(self) -> str:
        return "" if self._offer is None else self._offer.open()

    def withdraw(self) -> None:
        self._loop.call(self._withdraw)

    def clients(self) -> int:
        return self._rpc.running + (0 if self._doorway is None else self._doorway.clients)

    def leave(self) -> bool:
        if self._url is None or self._error is not None:
            return False
        self._leaving = True
        self._loop.submit(self._leave())
        return True

    def stop(self, timeout_s: float) -> None:
        self._loop.stop(self._stop(timeout_s), timeout_s + 5)

    # -- on the loop

    async def _start(self, door: str) -> None:
        sock = await asyncio.to_thread(_fetched, door) if door else None
        metrics = RouterMetrics()
        self._heart = Heart(
            self._identity, self._settings, MonotonicClock(), metrics, self._connect
        )
        app = await self._build(self._heart, metrics)
        self._heart.start()
        if self._board is not None:
            self._board.start()
        ProcessCollector(registry=metrics.registry)
        metrics.registry.register(ClusterCollector(self._told, self._settings.kv_transfer))
        own = bind(listen_at(self._settings.cluster.bind_host, own_address), 0)
        pages = own_pages(None if self._fronts is None else app, metrics.registry, self._targets)
        self._own = await serve(pages, own)
        reached = reached_at(self._settings.cluster.bind_host, own_address)
        self._metrics_address = with_port(reached, self._own.port)
        await self._meet_workers(self._heart, _MEET_WITHIN_S if sock is None else _SUCCEED_WITHIN_S)
        await self._rpc.open()
        self._http = await self._serve(app, sock)
        host, elsewhere = self._settings.router.host, self._settings.cluster.bind_host
        if spans_machines(elsewhere):
            host = reached_at(host, own_address)
        self._url = f"{self._settings.tls.scheme}://{with_port(host, self._http.port)}"

    async def _build(self, heart: Heart, metrics: RouterMetrics) -> ASGIApp:
        found = preflight.check(
            self._settings, model_path(self._settings), preflight.this_machine(), here=False
        )
        host = reached_at(self._settings.cluster.bind_host, own_address)
        extend_process_environ(engine_environment(found.device, 1, (0,), host))
        # Late: importing vLLM takes seconds and reads the environment set above.
        with uncollected():
            from deploy.front_ends import front_ends_of
            from router.http import Pages, build_front, build_http_app, front_args

        args = front_args(self._settings, found.model.path)
        tracing = self._tracing()
        front = build_front(args, heart, tracing)
        path, name = found.model.path, served_name(self._settings)
        self._fronts = fronts = front_ends_of(
            self._settings, path, name, heart, tracing, self._http_ended
        )
        heart.attach(front if fronts is None else Fronts(front, fronts.links))
        if fronts is not None:
            fronts.follow((), front.model_config.max_model_len)
        self._limit_model = front.set_model_limits
        pages = Pages(
            ready=heart.check_ready,
            knock=heart.door.knock,
            status=self._status_page,
            story=heart.story,
            explain=heart.explain,
            registry=metrics.registry,
            board=self._live_page(heart, metrics),
            targets=self._targets,
            recent=heart.window.recent,
        )
        app = await build_http_app(front, args, self._settings, pages)
        self._rpc.prepare(app, front, pages)
        return app

    def _tracing(self) -> Tracing | None:
        settings = self._settings
        self._spans = sink = span_sink(settings, "baton-router", self._name)
        ratio = settings.tracing.sample_ratio
        return None if sink is None else Tracing(sink, served_name(settings), ratio)

    def _live_page(self, heart: Heart, metrics: RouterMetrics) -> Board | None:
        settings = self._settings
        if not settings.router.ui:
            return None
        sources = Sources(
            metrics.registry,
            self._status_page,
            heart.signals,
            heart.window.latest,
            heart.story,
            heart.explain,
            heart.window.find,
            heart.window.split,
        )
        name = settings.model.served_name or model_path(settings).name
        self._board = Board(sources, settings.slo, name, MonotonicClock())
        return self._board

    async def _meet_workers(self, heart: Heart, most_s: float) -> None:
        """Connects to those that are there: the first client is not to find nobody."""
        await until(lambda: self._view is not None, most_s)
        if self._view is not None:
            self._set_view(self._view)
        await until(lambda: all(w["up"] for w in heart.status()["workers"]), most_s)

    async def _serve(self, app: ASGIApp, sock: socket.socket | None) -> HttpServer | FrontEnds:
        farewell, router = Farewell(app), self._settings.router
        sock = sock or bind(router.host, router.port, reuse_port=True)
        if (fronts := self._fronts) is not None:
            # Before they start: what has failed is to be stopped too.
            self._http, self._doorway, self._offer = fronts, fronts, Offer(sock)
            await fronts.start(sock)
            return fronts
        tls = server_context(self._settings.tls)
        http = await serve(farewell, sock, on_fault=self._http_ended, tls=tls)
        self._doorway, self._offer = Doorway(http, farewell), Offer(sock)
        return http

    def _http_ended(self, fault: TaskFault) -> None:
        message = f"{fault.task} ended: {fault.error}"
        self._failed(BatonError(Reason.INTERNAL, message).to_wire())

    def _connect(self, info: WorkerInfo, events: LinkEvents) -> WorkerLink:
        return WorkerLink(info, self._identity, events, dial=self._dial)

    def _set_view(self, view: ClusterView) -> None:
        self._view = view
        if self._heart is None or self._limit_model is None:
            return
        infos = [member.info for member in view.members if member.info is not None]
        most = min((self._limit_model(info.max_model_len_tokens) for info in infos), default=0)
        if self._fronts is not None and infos:
            self._fronts.follow(infos, most)
        self._heart.set_view(view)

    def _status_page(self) -> dict[str, Any]:
        heart = {} if self._heart is None else self._heart.status()
        members = () if self._view is None else self._view.members
        return {
            **heart,
            "members": [member_row(m) for m in members],
            "routers": [router_row(row) for row in self._routers],
            "grpc": self._rpc.address,
            "scaling": None if self._scaling is None else asdict(self._scaling),
        }

    def _told(self) -> Told:
        return Told(self._view, self._scaling, time.monotonic() - self._told_at)

    def _targets(self) -> list[dict[str, Any]]:
        name = self._settings.cluster.name
        return targets(name, self._view, self._routers, self._name, self._metrics_address)

    def _withdraw(self) -> None:
        if self._doorway is not None and not self._withdrawn:
            self._withdrawn = True
            self._loop.submit(self._doorway.close())
            self._loop.submit(self._rpc.stop(self._settings.cluster.drain_timeout_s))

    async def _leave(self) -> None:
        """The controller has a successor take over and stops this one. If nobody does, it goes."""
        # However long a successor takes to start: until it serves there is nobody else at the port.
        while time.monotonic() - self._asked_at < _ALONE_AFTER_S:
            # On a node that ends clients come no more, and the successor may wait for this room.
            if self._withdrawn or await asyncio.to_thread(leaving_here):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        self._withdraw()
        await until(lambda: not self.clients(), self._settings.cluster.drain_timeout_s)
        await asyncio.sleep(_STOPPED_WITHIN_S)
        await self._stop(1.0)
        os._exit(0)

    def _failed(self, error: Mapping[str, str]) -> None:
        self._error = error

    async def _stop(self, timeout_s: float) -> None:
        ends = [self._rpc.stop(timeout_s)]
        if self._http is not None:
            ends.append(self._http.stop(timeout_s))
        await asyncio.gather(*ends)
        if self._board is not None:
            await self._board.aclose()
        if self._own is not None:
            await self._own.stop(0.5)
        if self._heart is not None:
            await self._heart.aclose()
        await close_spans(self._spans)


def _fetched(door: str) -> socket.socket | None:
    try:
        return fetch(door)
    except OSError as error:
        _log.warning("the predecessor's port is opened anew: %s", error)
        return None
