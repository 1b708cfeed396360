"""The workers of a run: killed and stopped at will, and started again as a controller would."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import Signals
from typing import Any

from baton.ids import WorkerId
from baton.messages import ClusterView, Member, Role, WorkerInfo, WorkerState
from baton.tasks import Tasks
from benchmarks import forked, reference
from benchmarks.engines import LEFTOVERS_S, STOP_S, Setup, is_alive, launch, until, until_ready
from benchmarks.faults_proxy import Relay
from benchmarks.faults_result import say
from benchmarks.soak_probe import Look, Probe
from benchmarks.soak_workers import FaultyHandoff

CHUNK_TOKENS = 64
BLOCK_TOKENS = 32
BLOCKS = 600
MODEL_LEN_TOKENS = 1024
WRITE_DEADLINE_S = 8.0
"""Longer than any stop here, so that a stopped worker is given the time to go on."""
TPOT_S = 0.06
LOOK_S = 0.2
_NOTHING = Look(0, {})


def settings(request_timeout_s: float) -> dict[str, Any]:
    """What workers and router are told. Steps are short, because on CPU none can be interrupted."""
    return {
        "model": {**reference.SETTINGS["model"], "max_model_len_tokens": MODEL_LEN_TOKENS},
        "engine": {
            "block_size_tokens": BLOCK_TOKENS,
            "max_batched_tokens": CHUNK_TOKENS,
            "max_running_requests": 64,
            "kv_cache_gib": 0.25,
            "extra_args": {"num_gpu_blocks_override": BLOCKS},
        },
        # With the default, auto, decode does without prefill when it has to. The promise keeps it
        # from computing long prompts otherwise.
        "router": {"request_timeout_s": request_timeout_s},
        "slo": {"tpot_s": TPOT_S},
        # That promise is not one that these engines could keep.
        "admission": {"shed_at": 0.0},
        "log": {"level": "error"},
    }


def setup(folder: Path, request_timeout_s: float) -> Setup:
    """Baton's connector with every checksum compared, and the faults that tickets ask for."""
    transfer = {
        "connector": "baton",
        "verify": "full",
        "on_load_failure": "recompute",
        "write_deadline_s": WRITE_DEADLINE_S,
        "abort_timeout_s": WRITE_DEADLINE_S,
    }
    handoff = partial(FaultyHandoff, folder)
    return Setup(transfer, settings(request_timeout_s), handoff, forked=True)


class Whom(StrEnum):
    """Which of a worker's processes."""

    ENGINE = "engine"
    """It computes and writes."""
    OWNER = "owner"
    """It has the links to routers."""
    BOTH = "both"


@dataclass
class Manned:
    """One place in the cluster and the process that fills it now."""

    name: str
    role: Role
    core: int
    setup: Setup
    folder: Path
    changed: Callable[[], None]
    process: BaseProcess | None = None
    control: Connection | None = None
    info: WorkerInfo | None = None
    relay: Relay | None = None
    probe: Probe | None = None
    starts: int = 0
    frozen: bool = False
    """Stopped or slowed down by us: it is not asked how it is."""
    pids: list[int] = field(default_factory=list)
    """All processes it ever was."""

    @property
    def serves(self) -> bool:
        """Whether requests have reason to succeed here."""
        if self.info is None or self.frozen:
            return False
        return is_alive(self.info.engine_pid) and is_alive(self.info.pid)

    @property
    def engine_pid(self) -> int:
        """The process that computes. Raises AssertionError while there is none."""
        assert self.info is not None, f"{self.name} is down"
        return self.info.engine_pid

    def member(self) -> Member:
        """As the cluster's view shows it."""
        state = WorkerState.STARTING if self.info is None else WorkerState.READY
        return Member(WorkerId(self.name), self.role, state, self._told())

    def _told(self) -> WorkerInfo | None:
        if self.info is None or self.relay is None:
            return None
        return replace(self.info, incarnation=self.starts, address=self.relay.address)

    async def start(self) -> None:
        """Come up, for the first time or again."""
        self.starts += 1
        self.process, self.control = launch(
            forked.context(), self.name, self.role.value, self.core, self.setup
        )
        if self.process.pid is not None:
            self.pids.append(self.process.pid)
        info = (await asyncio.to_thread(until_ready, self.process, self.control)).info
        self.pids.append(info.engine_pid)
        self.relay, self.probe = Relay(info.address), Probe(self.folder, info.engine_pid)
        await self.relay.open()
        self.info = info
        say(f"{self.name} is up, start {self.starts}")
        self.changed()

    def send(self, number: Signals, whom: Whom = Whom.BOTH) -> None:
        """Send a signal. Raises AssertionError while the worker is down."""
        assert self.info is not None, f"{self.name} is down"
        pids = {Whom.ENGINE: self.info.engine_pid, Whom.OWNER: self.info.pid}
        for each, pid in pids.items():
            if whom in (each, Whom.BOTH):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def look(self) -> Look:
        """What its engine holds; nothing when it is gone just now."""
        try:
            return _NOTHING if self.probe is None else self.probe.look()
        except OSError:
            return _NOTHING

    # -- what a controller does

    async def keep(self) -> None:
        """Replace it whenever it is dead, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.info is None or self.frozen or await asyncio.to_thread(self._lives):
                continue
            say(f"{self.name} is dead")
            await self._bury()
            await self.start()

    def _lives(self) -> bool:
        assert self.process is not None
        assert self.control is not None
        try:
            self.control.send("progress")
            while not self.control.poll(LOOK_S):
                if not self.process.is_alive():
                    return False
            return bool(self.control.recv().alive)
        except (OSError, EOFError):
            return False

    async def _bury(self) -> None:
        """Its processes end for certain before its place is filled again."""
        assert self.info is not None
        self.send(Signals.SIGKILL)
        pids, relay = (self.info.engine_pid, self.info.pid), self.relay
        self.info = self.relay = None
        self._leave_probe()
        self.changed()
        await asyncio.to_thread(until, lambda: not any(map(is_alive, pids)), STOP_S)
        if relay is not None:
            await relay.aclose()

    def _leave_probe(self) -> None:
        if self.probe is not None:
            self.probe.close()
        self.probe = None

    async def end(self) -> None:
        """Stop it, and insist."""
        if self.relay is not None:
            await self.relay.aclose()
        self._leave_probe()
        if self.process is None or self.control is None:
            return
        if self.info is None:
            self.process.kill()
        with suppress(OSError):
            self.control.send("stop")
        await asyncio.to_thread(self.process.join, STOP_S)
        if self.process.is_alive():
            self.process.kill()


class Crew:
    """All workers. `changed` is told of each new view of them."""

    def __init__(
        self, folder: Path, timeout_s: float, prefills: int, tasks: Tasks, decodes: int = 2
    ) -> None:
        made, self._tasks = setup(folder, timeout_s), tasks
        self.on_view: Callable[[ClusterView], None] | None = None
        self._version = 0
        places = [(Role.PREFILL, n, 0) for n in range(prefills)]
        places += [(Role.DECODE, n, 1) for n in range(decodes)]
        self.all = [
            Manned(f"{role.value}-{n}", role, core, made, folder, self._changed)
            for role, n, core in places
        ]

    def of(self, role: Role) -> list[Manned]:
        """The workers of a pool."""
        return [worker for worker in self.all if worker.role is role]

    def named(self, name: str) -> Manned:
        """The worker of this name."""
        return next(worker for worker in self.all if worker.name == name)

    async def start(self) -> None:
        """All at once; from then on each is kept."""
        await asyncio.gather(*(worker.start() for worker in self.all))
        for worker in self.all:
            self._tasks.spawn(worker.keep(), worker.name)

    def follow(self, on_view: Callable[[ClusterView], None]) -> None:
        """Tell a router who is there, now and later."""
        self.on_view = on_view
        self._changed()

    def _changed(self) -> None:
        self._version += 1
        if self.on_view is not None:
            members = tuple(worker.member() for worker in self.all)
            self.on_view(ClusterView(self._version, members))

    def somebody_serves(self, role: Role | None = None) -> bool:
        """Whether a worker, or one of this role, is as it should be."""
        return any(worker.serves for worker in self.all if role in (None, worker.role))

    async def until_up(self, workers: list[Manned], timeout_s: float = 60) -> None:
        """Wait for these."""
        async with asyncio.timeout(timeout_s):
            while not all(worker.serves for worker in workers):  # noqa: ASYNC110 - processes
                await asyncio.sleep(0.05)

    async def leaked(self, timeout_s: float = 15) -> dict[str, int]:
        """Wait until nobody holds a block; worker → blocks that do not come back."""
        give_up_at = time.monotonic() + timeout_s
        found = await self._used()
        while found and time.monotonic() < give_up_at:
            await asyncio.sleep(0.1)
            found = await self._used()
        return found

    async def _used(self) -> dict[str, int]:
        serving = [worker for worker in self.all if worker.serves]
        looks = await asyncio.gather(*(asyncio.to_thread(worker.look) for worker in serving))
        return {w.name: look.used for w, look in zip(serving, looks, strict=True) if look.used}

    async def end(self) -> list[str]:
        """Stop all; returns the processes that are left."""
        await asyncio.gather(*(worker.end() for worker in self.all))
        pids = [pid for worker in self.all for pid in worker.pids]
        await asyncio.to_thread(until, lambda: not any(map(is_alive, pids)), LEFTOVERS_S)
        return [f"process {pid}" for pid in pids if is_alive(pid)]
