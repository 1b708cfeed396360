"""What the controller is told once: how many, how patient, and what time is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from baton.clock import Clock, MonotonicClock
from baton.ids import router_digest
from baton.settings import Settings
from cluster.scaling.rules import Rules
from cluster.supervision import Limits, Wanted

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers that the controller works by."""

    wanted: Wanted
    routers: int
    limits: Limits
    digest: str
    """A worker with another configuration is not taken."""
    router_digest: str = ""
    """A router with other settings is replaced."""
    health_interval_s: float = 1.0
    drain_timeout_s: float = 30.0
    call_timeout_s: float = 10.0
    stop_timeout_s: float = 20.0
    silence_s: float = 30.0
    """A ready process that answers nothing for this long is taken to be stuck."""
    view_repeat_s: float = 2.0
    rules: Rules = field(default_factory=Rules)
    """By which pools are scaled."""


@dataclass(frozen=True, slots=True)
class Time:
    """Where the shells get the time and how they let it pass."""

    clock: Clock
    pause: Pause = asyncio.sleep

    def now(self) -> float:
        """Seconds on the clock."""
        return self.clock.now()


def real_time() -> Time:
    """This machine's time."""
    return Time(MonotonicClock())


def plan_of(settings: Settings, digest: str) -> Plan:
    """The plan that the settings mean."""
    cluster = settings.cluster
    limits = Limits(
        settings.engine.start_timeout_s, cluster.restart_backoff_s, cluster.restart_backoff_max_s
    )
    return Plan(
        wanted=Wanted(settings.prefill.workers, settings.decode.workers),
        routers=settings.router.routers,
        limits=limits,
        digest=digest,
        router_digest=router_digest(settings.model_dump(), digest),
        health_interval_s=cluster.health_interval_s,
        drain_timeout_s=cluster.drain_timeout_s,
        rules=Rules(
            settings.scaling,
            settings.slo,
            settings.gpus_of(settings.prefill),
            settings.gpus_of(settings.decode),
        ),
    )
