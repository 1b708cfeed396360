"""One router's process: the heart, its links to the workers, and vLLM's server before it.

A plain class that `cluster` turns into an actor; everything runs on an event loop in a thread of
its own. The port is bound before vLLM is imported, so that a taken port is known at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from baton.clock import MonotonicClock
from baton.errors import BatonError, Reason
from baton.ids import RouterId
from baton.log import configure_logging
from baton.messages import ClusterView, WorkerInfo
from baton.settings import Settings, extend_process_environ
from baton.tasks import TaskFault
from cluster.ports import RouterProgress
from deploy.imports import uncollected
from deploy.loop_thread import LoopThread
from deploy.model import model_path, resolved
from engine import preflight
from engine.environment import engine_environment
from router.heart import Heart
from router.link import WorkerLink
from router.listen import HttpServer, bind, serve
from router.metrics import RouterMetrics
from router.wire import Identity, LinkEvents


class RouterProcess:
    """Implements `cluster.ports.RouterProcess`."""

    def __init__(self, settings_dump: Mapping[str, Any], router_id: str, digest: str) -> None:
        self._settings = resolved(Settings.model_validate(settings_dump))
        # A restarted router is a new one to the workers.
        self._identity = Identity(RouterId(f"{router_id}-{os.getpid()}"), digest)
        self._loop = LoopThread("router")
        self._url: str | None = None
        self._error: Mapping[str, str] | None = None
        self._heart: Heart | None = None
        self._http: HttpServer | None = None
        self._limit_model: Any = None
        self._view: ClusterView | None = None

    # -- called by the controller

    def start(self) -> None:
        configure_logging(self._settings.log.level, self._settings.log.format)
        self._loop.start(self._start, self._failed)

    def progress(self) -> RouterProgress:
        return RouterProgress(ready_url=self._url, error=self._error, alive=self._error is None)

    def set_view(self, view: ClusterView) -> None:
        self._loop.call(self._set_view, view)

    def status(self) -> dict[str, Any]:
        return {} if self._heart is None else self._heart.status()

    def drain(self, timeout_s: float) -> None:
        if self._heart is not None:
            self._loop.call(self._heart.drain)

    def drained(self) -> bool:
        return self._heart is None or self._heart.inflight == 0

    def stop(self, timeout_s: float) -> None:
        self._loop.stop(self._stop(timeout_s), timeout_s + 5)

    # -- on the loop

    async def _start(self) -> None:
        settings = self._settings.router
        sock = bind(settings.host, settings.port, reuse_port=settings.routers > 1)
        metrics = RouterMetrics()
        self._heart = Heart(
            self._identity, self._settings, MonotonicClock(), metrics, self._connect
        )
        self._http = await self._serve(self._heart, metrics, sock)
        self._heart.start()
        self._url = f"http://{settings.host}:{self._http.port}"
        if self._view is not None:
            self._set_view(self._view)

    async def _serve(self, heart: Heart, metrics: RouterMetrics, sock: socket.socket) -> HttpServer:
        found = preflight.check(
            self._settings, model_path(self._settings), preflight.this_machine()
        )
        host = self._settings.cluster.bind_host
        extend_process_environ(engine_environment(found.device, 1, (0,), host))
        # Late: importing vLLM takes seconds and reads the environment set above.
        with uncollected():
            from router.http import Pages, build_front, build_http_app, front_args

        args = front_args(self._settings, found.model.path)
        front = build_front(args, heart)
        heart.attach(front)
        self._limit_model = front.set_model_limits
        pages = Pages(
            heart.check_ready, self._status_page, heart.story, heart.explain, metrics.registry
        )
        app = await build_http_app(front, args, self._settings, pages)
        return await serve(app, sock, on_fault=self._http_ended)

    def _http_ended(self, fault: TaskFault) -> None:
        message = f"the HTTP server ended: {fault.error}"
        self._failed(BatonError(Reason.INTERNAL, message).to_wire())

    def _connect(self, info: WorkerInfo, events: LinkEvents) -> WorkerLink:
        return WorkerLink(info, self._identity, events)

    def _set_view(self, view: ClusterView) -> None:
        self._view = view
        if self._heart is None or self._limit_model is None:
            return
        for member in view.members:
            if member.info is not None:
                self._limit_model(member.info.max_model_len_tokens)
        self._heart.set_view(view)

    def _status_page(self) -> dict[str, Any]:
        heart = {} if self._heart is None else self._heart.status()
        members = () if self._view is None else self._view.members
        return {**heart, "members": [_member(m) for m in members]}

    def _failed(self, error: Mapping[str, str]) -> None:
        self._error = error

    async def _stop(self, timeout_s: float) -> None:
        if self._http is not None:
            await self._http.stop(timeout_s)
        if self._heart is not None:
            await self._heart.aclose()


def _member(member: Any) -> dict[str, Any]:
    return {
        "worker_id": member.worker_id,
        "role": member.role.value,
        "state": member.state.value,
        "detail": member.detail,
        "restarts": member.restarts,
        "incarnation": member.info.incarnation if member.info else None,
        "address": member.info.address if member.info else None,
        "pid": member.info.pid if member.info else None,
        "engine_pid": member.info.engine_pid if member.info else None,
    }
