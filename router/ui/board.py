"""The page's contents on request: reads the router's parts, keeps the last minutes.

What was made a moment ago is shown again, so that many who look cost no more than one. While nobody
looks, the totals of a few metrics are noted every few seconds, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from baton.clock import Clock
from baton.ids import RequestId
from baton.settings.router import SloSettings
from baton.signals import RouterSignals
from baton.tasks import Tasks
from router.life import FlowState
from router.split import Split
from router.ui import figures, requests
from router.ui.data import View, data
from router.ui.history import STEP_S, History, totals_of

FRESH_S = 0.5
RECENT_MAX = 40


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page gets its contents. None of these may block."""

    registry: CollectorRegistry
    status: Callable[[], Mapping[str, Any]]
    signals: Callable[[], RouterSignals]
    recent: Callable[[int], Sequence[FlowState]]
    """So many requests at most, those inside and those that ended last."""
    story: Callable[[str], str | None]
    explain: Callable[[str], Sequence[Mapping[str, Any]]]
    find: Callable[[str], FlowState | None]
    split: Callable[[RequestId], Split | None]


class Board:
    """Of one router, in its event loop."""

    def __init__(
        self,
        sources: Sources,
        slo: SloSettings,
        model: str,
        clock: Clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._slo = slo
        self._model = model
        self._clock = clock
        self._wall = wall
        self._history = History()
        self._made: tuple[float, bytes] = (float("-inf"), b"")
        self._tasks = Tasks("board")

    def start(self) -> None:
        """Begins to note totals, in the running event loop."""
        self._tasks.spawn(self._note_for_ever(), "note", eternal=True)

    async def aclose(self) -> None:
        """Ends that."""
        await self._tasks.aclose()

    def data(self) -> bytes:
        """The whole page as JSON, at most `FRESH_S` old."""
        now = self._clock.now()
        if now - self._made[0] >= FRESH_S:
            self._made = (now, json.dumps(data(self._view(now)), separators=(",", ":")).encode())
        return self._made[1]

    def request(self, request_id: str) -> dict[str, Any] | None:
        """One request's story, its split and its plans; part of its id will do. None: unknown."""
        state = self._sources.find(request_id)
        if state is None or not state.log:
            return None
        split = self._sources.split(state.request_id)
        row = requests.row(state, self._clock.now())
        return {
            **row,
            # The page shows it beside its parts.
            "ttft_s": row["ttft_s"] if split is None else split.total_s,
            "story": self._sources.story(state.request_id),
            "plans": list(self._sources.explain(state.request_id)),
            "parts": requests.parts(split),
        }

    def note(self) -> None:
        """Notes the totals, if it is time to."""
        now = self._clock.now()
        if self._history.due(now):
            found = figures.read(self._sources.registry, figures.COUNTED)
            self._history.note(totals_of(found, now))

    def _view(self, now: float) -> View:
        found = figures.read(self._sources.registry, figures.SHOWN)
        latest = totals_of(found, now)
        if self._history.due(now):
            self._history.note(latest)
        return View(
            now,
            self._wall(),
            self._model,
            self._slo,
            found,
            list(self._history),
            self._history.point(latest),
            self._sources.signals(),
            self._sources.status(),
            requests.rows(self._sources.recent(RECENT_MAX), now),
        )

    async def _note_for_ever(self) -> None:
        while True:
            self.note()
            await asyncio.sleep(STEP_S)
