"""A whole router without its servers, for those who put one in front of fake or played workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from baton.clock import MonotonicClock
from baton.ids import RouterId
from baton.messages import ClusterView, Member, WorkerState
from baton.settings.model import Settings
from router.front import BatonFront
from router.heart import Heart
from router.http import Pages, build_front, build_http_app, front_args
from router.link import connector
from router.metrics import RouterMetrics
from router.wire import Identity
from tests.wire.fake_worker import DIGEST, FakeWorker
from tests.wire.http.support import DEMO, until


@dataclass
class WholeRouter:
    """Its parts, as a router's process has them."""

    settings: Settings
    metrics: RouterMetrics
    heart: Heart
    front: BatonFront
    pages: Pages
    app: FastAPI

    async def introduce(self, *workers: FakeWorker) -> None:
        """Until the router is linked to all of them."""
        infos = [worker.info for worker in workers]
        members = tuple(Member(i.worker_id, i.role, WorkerState.READY, i) for i in infos)
        self.heart.set_view(ClusterView(1, members))
        await until(lambda: all(w["up"] for w in self.heart.status()["workers"]))


@asynccontextmanager
async def whole_router(
    chosen: Mapping[str, Any], digest: str = DIGEST
) -> AsyncIterator[WholeRouter]:
    """One with the demo model under the name `demo`, until the end of the block."""
    settings = Settings.model_validate({"model": {"served_name": "demo"}, **chosen})
    args, metrics = front_args(settings, DEMO), RouterMetrics()
    identity = Identity(RouterId("router-0"), digest)
    heart = Heart(identity, settings, MonotonicClock(), metrics, connector(identity))
    front = build_front(args, heart)
    heart.attach(front)
    heart.start()
    pages = Pages(
        heart.check_ready,
        heart.door.knock,
        heart.status,
        heart.story,
        heart.explain,
        metrics.registry,
    )
    app = await build_http_app(front, args, settings, pages)
    yield WholeRouter(settings, metrics, heart, front, pages, app)
    await heart.aclose()
    front.shutdown()
