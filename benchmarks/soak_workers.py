"""The workers of a soak: two for prefill, one for decode, each killed and started again at will."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from baton.settings import KvTransferSettings
from baton.tasks import Tasks
from benchmarks import forked, reference
from benchmarks.engines import (
    LEFTOVERS_S,
    STOP_S,
    Setup,
    Started,
    is_alive,
    launch,
    until,
    until_ready,
)
from benchmarks.legs import WorkerLink
from benchmarks.soak_probe import Probe
from benchmarks.soak_result import WRITE_DEADLINE_S
from kv_transfer.push import BatonPush

CHUNK_TOKENS = 64
BLOCK_TOKENS = 32
BLOCKS = 40
"""So few that six requests do not fit at once."""
MODEL_LEN_TOKENS = 1024
_CONNECTOR = "benchmarks.faulty_connector"


class FaultyHandoff(BatonPush):
    """Baton's connector with the faults in it; says what it always says."""

    name: ClassVar[str] = "baton"

    def __init__(self, folder: Path, settings: KvTransferSettings) -> None:
        super().__init__(settings)
        self._folder = folder

    def environment(self, host: str) -> Mapping[str, str]:
        # Otherwise a socket swallows a whole write, and none is ever under way at a stop.
        small = {"UCX_TCP_SNDBUF": "64k", "UCX_TCP_RCVBUF": "64k"}
        return {**super().environment(host), **small}

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        honest = super().transfer_config(device)
        extra = {
            **honest["kv_connector_extra_config"],
            "soak_folder": str(self._folder),
            "soak_delay_max_s": 0.3,
        }
        return {
            **honest,
            "kv_connector": "FaultyConnector",
            "kv_connector_module_path": _CONNECTOR,
            "kv_connector_extra_config": extra,
        }

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        return b"pushed"  # so that the end of a prefill leg is news of its own


def setup(folder: Path, ucx_tls: str | None) -> Setup:
    """Small steps, because a step on CPU cannot be interrupted, and tiny pools."""
    transfer = {
        "connector": "baton",
        "verify": "full",
        "on_load_failure": "recompute",
        "write_deadline_s": WRITE_DEADLINE_S,
        "abort_timeout_s": WRITE_DEADLINE_S,
        "ucx_tls": ucx_tls,
    }
    engine = {
        "block_size_tokens": BLOCK_TOKENS,
        "max_batched_tokens": CHUNK_TOKENS,
        "max_running_requests": 16,
        "kv_cache_gib": 0.25,
        # Unless prompts are admitted before all of them fits, nothing is ever preempted there.
        "extra_args": {"num_gpu_blocks_override": BLOCKS, "scheduler_reserve_full_isl": False},
    }
    settings = {
        "model": {**reference.SETTINGS["model"], "max_model_len_tokens": MODEL_LEN_TOKENS},
        "engine": engine,
        "log": {"level": "error"},
    }
    return Setup(transfer, settings, partial(FaultyHandoff, folder), forked=True)


@dataclass
class Soaked:
    """One worker, with the router's link to it and the probe in its engine."""

    name: str
    role: str
    core: int
    setup: Setup
    folder: Path
    tasks: Tasks
    started: Started = field(init=False)
    link: WorkerLink = field(init=False)
    probe: Probe = field(init=False)
    pids: list[int] = field(default_factory=list)
    """All processes this worker ever was."""
    up: bool = False
    """Not so from its kill until its next start."""
    stopped: bool = False
    """Its engine is up and answers nothing."""

    async def start(self) -> None:
        """Come up, for the first time or again."""
        process, control = launch(forked.context(), self.name, self.role, self.core, self.setup)
        try:
            self.started = await asyncio.to_thread(until_ready, process, control)
        except AssertionError:
            process.kill()
            raise
        self.pids += [self.started.info.pid, self.engine_pid]
        self.link = WorkerLink(self.started.info, self.tasks)
        await self.link.open()
        self.probe = Probe(self.folder, self.engine_pid)
        self.up = True

    @property
    def engine_pid(self) -> int:
        """The process that computes and writes."""
        return self.started.info.engine_pid

    def signal(self, number: signal.Signals) -> None:
        """Send the engine a signal."""
        os.kill(self.engine_pid, number)

    @property
    def answers(self) -> bool:
        """Whether its engine can be looked into."""
        return self.up and not self.stopped

    def kill(self) -> None:
        """As `kill -9` does it: the engine is gone, its worker says so."""
        self.up = self.stopped = False
        self.signal(signal.SIGKILL)

    async def end(self) -> None:
        """Leave nothing. Raises AssertionError when the worker does not stop."""
        self.up = False
        if not self.pids:
            return
        await self.link.close()
        self.probe.close()
        process = self.started.process
        if process.is_alive():
            self.started.control.send("stop")
        await asyncio.to_thread(process.join, STOP_S)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"{self.name} did not stop in {STOP_S} s")

    async def restart(self) -> None:
        """The killed engine's worker goes, once it has told of the death, and a new one comes."""
        give_up_at = time.monotonic() + STOP_S
        while (await asyncio.to_thread(self.started.progress)).alive:
            assert time.monotonic() < give_up_at, f"{self.name} does not see its engine's death"
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.2)
        await self.end()
        await self.start()


class Crew:
    """All workers on one transport."""

    def __init__(self, folder: Path, ucx_tls: str | None, tasks: Tasks) -> None:
        made = setup(folder, ucx_tls)
        self.prefills = [
            Soaked(f"prefill-{i}", "prefill", 0, made, folder, tasks) for i in range(2)
        ]
        self.decode = Soaked("decode-0", "decode", 1, made, folder, tasks)
        self._turn = count()
        self.lost: list[str] = []
        """Engines that ended and were not killed by us."""

    @property
    def all(self) -> list[Soaked]:
        """Every worker, up or not."""
        return [*self.prefills, self.decode]

    async def start(self) -> None:
        """One prefill worker and the decode worker."""
        await asyncio.gather(self.prefills[0].start(), self.decode.start())

    async def start_spare(self) -> None:
        """The other prefill worker."""
        await self.prefills[1].start()

    def next_prefill(self) -> Soaked:
        """One that answers; they take turns. Raises AssertionError when there is none."""
        ready = [worker for worker in self.prefills if worker.answers]
        assert ready, "no prefill worker is left"
        return ready[next(self._turn) % len(ready)]

    def count_lost(self) -> None:
        """Find engines that are gone and should not be."""
        for worker in self.all:
            if worker.up and not is_alive(worker.engine_pid):
                worker.up = False
                self.lost.append(worker.name)

    async def end(self) -> list[str]:
        """Stop what runs; returns the processes that are left."""
        await asyncio.gather(*(worker.end() for worker in self.all))
        pids = [pid for worker in self.all for pid in worker.pids]
        await asyncio.to_thread(until, lambda: not any(map(is_alive, pids)), LEFTOVERS_S)
        return [f"process {pid}" for pid in pids if is_alive(pid)]
