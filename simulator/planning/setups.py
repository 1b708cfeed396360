"""The clusters that a plan chooses from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from simulator.engine_model.times import EngineTimes
from simulator.planning.terms import Kind
from simulator.rules import EngineRules, NetworkRules

CHUNKS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
"""Tokens in one step of a worker that does both: small ones spare answers, large ones prompts."""
MIXED_CHUNK = 2048
"""The same for a decode worker that computes a prompt now and then, as its router expects it."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One choice of engine: its times, its memory, and how many GPUs it takes (tensor parallel)."""

    name: str
    times: EngineTimes
    engine: EngineRules = field(default_factory=EngineRules)
    gpus: int = 1
    network: NetworkRules = field(default_factory=NetworkRules)
    cores: float = 0
    """Of one machine, for engines without accelerators: so many compute side by side, more of them
    share; 0 = they have accelerators."""

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ValueError(f"{self.name}: an engine takes at least one GPU, not {self.gpus}")

    def most(self, gpus: int) -> int:
        """Engines that fit into so many GPUs, and onto cores of their own: where they share, one
        more may do harm, and plans are searched upwards."""
        return min(gpus // self.gpus, int(self.cores) or gpus)

    def chunked(self, tokens: int) -> EngineRules:
        """Its scheduler with steps of so many tokens."""
        running = min(self.engine.max_running, tokens // 2)
        return replace(self.engine, max_batched_tokens=tokens, max_running=running)


@dataclass(frozen=True, slots=True)
class Setup:
    """One cluster. Aggregated workers are counted as `prefill`."""

    hardware: Hardware
    kind: Kind
    prefill: int
    decode: int = 0
    chunk_tokens: int = 0
    """Of aggregated workers."""

    @property
    def workers(self) -> int:
        """Both pools."""
        return self.prefill + self.decode

    @property
    def gpus(self) -> int:
        """What it costs."""
        return self.workers * self.hardware.gpus

    def __str__(self) -> str:
        """One phrase for people."""
        if self.kind is Kind.AGGREGATED:
            return f"{self.prefill} aggregated, chunks of {self.chunk_tokens}"
        return f"{self.prefill} prefill + {self.decode} decode, {self.kind}"


@dataclass(frozen=True, slots=True)
class Family:
    """All clusters of one kind and hardware. `options` are in order: where prompts wait a later one
    helps, where answers wait an earlier one."""

    hardware: Hardware
    kind: Kind

    @property
    def least(self) -> int:
        """The fewest workers."""
        return 1 if self.kind is Kind.AGGREGATED else 2

    def options(self, workers: int) -> tuple[Setup, ...]:
        """The clusters of so many workers."""
        if self.kind is Kind.AGGREGATED:
            most = self.hardware.engine.max_batched_tokens
            chunks = [c for c in CHUNKS if c <= most] or [most]
            return tuple(Setup(self.hardware, self.kind, workers, 0, c) for c in chunks)
        splits = range(1, workers)
        return tuple(Setup(self.hardware, self.kind, p, workers - p) for p in splits)
