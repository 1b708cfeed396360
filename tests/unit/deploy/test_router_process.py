"""A router's process that is to leave, and what it shows of the others. No server runs here."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from baton.clock import MonotonicClock
from baton.ids import RouterId
from baton.messages import ClusterView, WorkerState
from baton.settings import Settings
from baton.signals import PoolSignals
from cluster.ports import RouterRow
from deploy import router_process
from deploy.router_process import RouterProcess
from router.heart import Heart
from router.metrics import RouterMetrics


class Door:
    """A doorway with one client, who goes when asked to."""

    def __init__(self) -> None:
        self.clients = 1
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1
        self.clients = 0


@pytest.fixture
def process() -> Iterator[RouterProcess]:
    settings = Settings.model_validate({"cluster": {"drain_timeout_s": 0.3}})
    process = RouterProcess(settings.model_dump(), "router-0", "digest")
    process._loop._thread.start()
    yield process
    process._loop.call(process._loop.loop.stop)


def test_a_router_that_does_not_serve_has_nothing_to_finish(process: RouterProcess) -> None:
    assert not process.leave()
    assert not process.progress().leaving
    assert (process.offer(), process.clients()) == ("", 0)
    process.withdraw()


def test_told_to_leave_and_left_alone_it_withdraws_and_ends(
    process: RouterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(router_process, "_STOPPED_WITHIN_S", 0.01)
    monkeypatch.setattr(router_process, "_ALONE_AFTER_S", 0.5)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    process._url = "http://127.0.0.1:1"
    process._doorway = door = Door()
    assert process.leave()
    assert process.progress().leaving
    # A successor might still come for the port.
    assert door.closed == 0
    assert ended.wait(5)
    assert (door.closed, process.clients()) == (1, 0)


def test_on_a_node_that_ends_it_does_not_wait_for_a_successor(
    process: RouterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor may wait for the room that this one has."""
    ended = threading.Event()
    monkeypatch.setattr(router_process, "_STOPPED_WITHIN_S", 0.01)
    monkeypatch.setattr(router_process, "leaving_here", lambda: True)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    process._url = "http://127.0.0.1:1"
    process._doorway = door = Door()
    assert process.leave()
    assert ended.wait(5)
    assert door.closed == 1


def test_while_the_controller_asks_it_serves_until_somebody_follows(
    process: RouterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor may take longer to start than requests have to finish."""
    ended = threading.Event()
    monkeypatch.setattr(router_process, "_STOPPED_WITHIN_S", 0.01)
    monkeypatch.setattr(router_process, "_ALONE_AFTER_S", 1.0)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    process._url = "http://127.0.0.1:1"
    process._doorway = door = Door()
    assert process.leave()
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        assert process.progress().leaving
        assert door.closed == 0
        assert not ended.wait(0.05)
    process.withdraw()
    assert ended.wait(5)
    assert door.closed == 1


def test_the_controller_withdraws_it_once(process: RouterProcess) -> None:
    process._doorway = door = Door()
    process.withdraw()
    process.withdraw()
    process._loop.submit(_nothing()).result(5)
    process._loop.submit(_nothing()).result(5)
    assert door.closed == 1


async def _nothing() -> None: ...


def test_the_page_shows_all_routers(process: RouterProcess) -> None:
    row = RouterRow(RouterId("router-1"), WorkerState.DRAINING, None, "3 clients left", 2, 7, True)
    process.set_view(ClusterView(1), (row,))
    (shown,) = process._status_page()["routers"]
    assert (shown["router_id"], shown["state"], shown["incarnation"]) == ("router-1", "draining", 3)
    assert (shown["replaced"], shown["detail"], shown["pid"]) == (True, "3 clients left", 7)


def test_signals_are_the_hearts_as_soon_as_there_is_one(process: RouterProcess) -> None:
    assert process.signals() is None
    process._heart = Heart(
        process._identity, process._settings, MonotonicClock(), RouterMetrics(), process._connect
    )
    process._loop.call(process._heart.start)
    # The loop is not waited for, however busy it is.
    process._loop.call(time.sleep, 0.3)
    began = time.monotonic()
    signals = process.signals()
    assert time.monotonic() - began < 0.2
    assert signals is not None
    assert (signals.waiting, signals.prefill, signals.decode) == (0, PoolSignals(), PoolSignals())
    process._loop.submit(process._heart.aclose()).result(5)


def test_what_is_left_to_tell_of_requests_is_sent_at_the_end(process: RouterProcess) -> None:
    closed = threading.Event()
    process._spans = SimpleNamespace(close=closed.set)
    process._loop.submit(process._stop(0.1)).result(5)
    assert closed.is_set()
