"""`baton profile`: starts an engine as `baton serve` would, measures it, tells how it fits."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.clock import Clock, MonotonicClock
from baton.errors import BatonError, StartupError, StartupFault
from baton.log import configure_logging
from baton.settings import Settings, extend_process_environ, process_environ
from deploy import transport
from deploy.engine_start import set_environment, start_engine
from deploy.model import model_path, resolved
from deploy.profiling.machine import about, engine_limits, identity, model_facts
from deploy.profiling.meter import Maker, Meter, Patience, PrefillTimes, StepTimes
from deploy.profiling.points import LONGEST_TOKENS, QUICK_LONGEST_TOKENS, Point, Prefill, Room, grid
from deploy.profiling.store import ProfileFile
from deploy.progress import Watched, on_interrupt, watched
from engine import preflight
from engine.ports import Engine, EngineFacts
from kv_transfer.handoff import handoff_for
from simulator.engine_model.fit import fit
from simulator.engine_model.profile import ProfileError, load_profile

_STOP_S = 5.0
_LOGGING = "VLLM_LOGGING_LEVEL"
_REPEAT_S, _QUICK_REPEAT_S = 60.0, 4.0
_QUICK_TOKENS = {"cpu": 8_192, "cuda": 131_072}
_TRANSFER = "transfer"
_TRANSFER_SHARE = 0.05
"""Of the whole, for the estimate of what is left."""


@dataclass(slots=True)
class Estimate:
    """How long the rest takes, judged by how long the work so far took."""

    total: float
    done: float = 0.0
    measured: float = 0.0
    """Of what is done, that which this run did itself."""

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds; None as long as there is nothing to judge by."""
        if not self.measured or not elapsed_s:
            return None
        return (self.total - self.done) * elapsed_s / self.measured

    def note(self, what: object, elapsed_s: float) -> str:
        """One line of progress."""
        left_s = self.left_s(elapsed_s)
        return f"{what}" if left_s is None else f"{what}, about {_duration(left_s)} left"


def run(settings: Settings, args: argparse.Namespace) -> tuple[int, str]:
    """(exit code, what to print). Raises StartupError, and BatonError for a broken engine."""
    configure_logging("error", "text")
    settings = _measurable(resolved(settings))
    found = preflight.check(settings, model_path(settings), preflight.this_machine())
    wanted = identity(settings, found, quick=args.quick, longest=args.longest)
    file = ProfileFile.open(args.file, wanted, again=args.again)
    with watched("profile") as progress:
        stopped = asyncio.run(_run(settings, found, file, args, progress))
        moved = stopped or args.no_transfer or _transfers(settings, file, progress)
    if stopped:
        without = " without --again" if args.again else ""
        return 1, f"interrupted; the same command{without} goes on with {args.file}\n"
    told = [*fitted(args.file), f"profile: {args.file}"]
    if moved:
        file.finish()
    else:
        told.append("without what moves KV: the same command tries that again")
    return 0, "\n".join(told) + "\n"


def fitted(path: Path) -> Iterator[str]:
    """How well the simulator's model describes what was measured."""
    try:
        yield str(fit(load_profile(path)))
    except ProfileError as error:
        yield f"no model fits: {error}"


async def measure(
    meter: Meter,
    points: Sequence[Point],
    file: ProfileFile,
    progress: Watched,
    clock: Clock,
    stopped: Callable[[], bool],
) -> None:
    """What the file lacks of the points, each written when it is measured."""
    estimate = Estimate(sum(point.work for point in points))
    began = clock.now()
    for point in points:
        if stopped():
            return
        if not file.has(point):
            share = estimate.done / estimate.total * (1 - _TRANSFER_SHARE)
            progress.at(share, estimate.note(point, clock.now() - began))
            file.add(point, await _found(meter, point))
            estimate.measured += point.work
        estimate.done += point.work


async def _found(meter: Meter, point: Point) -> PrefillTimes | StepTimes | None:
    return await (meter.prefill(point) if isinstance(point, Prefill) else meter.decode(point))


def room_of(facts: EngineFacts, batch: int, longest: int) -> Room:
    """What an engine can be asked."""
    return Room(
        longest_tokens=min(facts.max_model_len_tokens, longest),
        kv_tokens=facts.kv_blocks * facts.block_size_tokens,
        batch=batch,
        block_tokens=facts.block_size_tokens,
        quick_tokens=_QUICK_TOKENS[facts.device],
    )


def _measurable(settings: Settings) -> Settings:
    """Raises StartupError where cached prefixes could not be measured."""
    if not settings.engine.prefix_caching:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            "engine.prefix_caching is off, and a profile tells what cached prefixes save",
            hint="Leave it on for the measurement.",
        )
    return settings


async def _run(
    settings: Settings,
    found: preflight.Preflight,
    file: ProfileFile,
    args: argparse.Namespace,
    progress: Watched,
) -> bool:
    """Whether somebody ended it early."""
    stop = asyncio.Event()
    on_interrupt(stop.set)
    progress.at(0.0, "starting the engine")
    try:
        async with engine_of(settings, found) as engine:
            told = about(settings, found.model, engine.facts)
            model = model_facts(settings, found.model, engine.facts)
            file.describe(told, model, engine_limits(settings, engine.facts))
            longest = args.longest or (QUICK_LONGEST_TOKENS if args.quick else LONGEST_TOKENS)
            room = room_of(engine.facts, settings.engine.max_running_requests, longest)
            silence_s = settings.engine.step_silence_timeout_s
            patience = Patience(silence_s, _QUICK_REPEAT_S if args.quick else _REPEAT_S)
            clock = MonotonicClock()
            meter = Meter(engine, maker(), clock, random.Random(), patience)
            await meter.warm(min(512, room.longest_tokens // 2))
            points = grid(room, quick=args.quick)
            await measure(meter, points, file, progress, clock, stop.is_set)
    except (BatonError, StartupError):
        # Ctrl-C in a terminal reaches the engine's process as well.
        if not stop.is_set():
            raise
    return stop.is_set()


def maker() -> Maker:
    """What makes requests. Late, as for the engine."""
    from engine.tiny_request import plain_request

    return plain_request


@asynccontextmanager
async def engine_of(settings: Settings, found: preflight.Preflight) -> AsyncIterator[Engine]:
    """One engine as a worker has it, in this process, and its end. Raises StartupError."""
    handoff = handoff_for(settings.kv_transfer)
    extend_process_environ(settings.cluster.runtime_env.get("env_vars", {}))
    set_environment(settings, found.device, handoff, 0)
    extend_process_environ({_LOGGING: process_environ().get(_LOGGING, "ERROR")})
    engine, _ = await start_engine(settings, found, handoff, "profile", None)
    atexit.register(_silence)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.shutdown, _STOP_S)


def _silence() -> None:
    """Of what vLLM brings along, some tells a page about itself when a process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _transfers(settings: Settings, file: ProfileFile, progress: Watched) -> bool:
    """What moves KV between two processes here, by the means that workers use. False: nothing."""
    if file.has(_TRANSFER):
        return True
    progress.at(1 - _TRANSFER_SHARE, "transfer between two processes")
    plan = transport.plan(settings, None, None)
    found = transport.examine(settings, plan)[0]
    if not found.rows:
        progress.say(f"no transfer: {found.why}")
        return False
    file.add_transfers(_TRANSFER, list(_rows(plan, found)))
    return True


def _rows(plan: transport.Plan, found: transport.Found) -> Iterator[dict[str, Any]]:
    """One per operation and size of what one descriptor moves; the engine's own size first."""
    for row in found.rows:
        told: set[int] = set()
        for shape, rate in row.gb_per_s.items():
            size = plan.shapes[shape][0]
            if size not in told:
                told.add(size)
                yield {"op": row.operation, "block_bytes": size, "GBps": round(rate, 4)}


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
