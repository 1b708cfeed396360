"""What a simulated cluster is made of: its parameters, with the reasons for their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baton.messages import Role
from simulator.engine_model.times import EngineTimes


@dataclass(frozen=True, slots=True)
class EngineRules:
    """The scheduler of one engine.

    KV memory: an H200 has 141 GB; nine tenths less 16 GB of weights and 4 GB of activations hold
    about 820,000 tokens of an 8-billion-parameter model. The other two are as the profile of
    that GPU was measured.
    """

    kv_tokens: int = 820_000
    max_batched_tokens: int = 16_384
    max_running: int = 512
    headroom: float = 0.01
    """Share of KV memory that admissions leave to growing answers, as vLLM's watermark does."""

    def __post_init__(self) -> None:
        if min(self.kv_tokens, self.max_batched_tokens, self.max_running) < 1:
            raise ValueError("kv_tokens, max_batched_tokens and max_running: at least 1 each")
        if not 0 <= self.headroom < 1:
            raise ValueError(f"headroom is a share of the memory: {self.headroom}")
        if self.max_running >= self.max_batched_tokens:
            raise ValueError("max_running has to leave tokens of an iteration to prompts")


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """The way of KV from prefill to decode, and of questions to workers.

    One worker sends, and one receives, one thing at a time at the full rate: 50 GB/s is a
    400 Gb/s adapter, workers of one host have their own rate. The latency is what the last chunk
    took from computed to scheduled (5 ms, two CPU engines), as an upper bound.
    """

    bytes_per_s: float = 50e9
    host_bytes_per_s: float = 400e9
    latency_s: float = 0.005
    streamed: bool = True
    """Whether KV leaves while the prompt is still being computed, or only afterwards."""
    layers: int = 32
    """KV leaves layer by layer as a chunk is computed; 1 = chunk by chunk."""
    ask_s: float = 0.001
    """One round of questions from a router to workers."""

    def __post_init__(self) -> None:
        if not min(self.bytes_per_s, self.host_bytes_per_s) > 0:
            raise ValueError("a link has to carry more than 0 bytes per second")
        if min(self.latency_s, self.ask_s) < 0 or self.layers < 1:
            raise ValueError("latency_s and ask_s: at least 0 each; layers: at least 1")


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a router knows. It always knows at once who is a member, and what it sent itself.

    load: "reported" = each worker's true load, as of the last report; "own" = only what this
    router sent and has not yet seen computed or finished. cache: "reported" = the blocks that each
    worker holds; "own" = those of the prompts that this router sent there. Reports are taken every
    `every_s` (0 = at each moment) and arrive `delay_s` later; routers take turns, they do not
    report in step.
    """

    load: Literal["reported", "own"] = "reported"
    cache: Literal["reported", "own"] = "reported"
    every_s: float = 0.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.every_s, self.delay_s) < 0:
            raise ValueError("every_s and delay_s: at least 0 each")
        if self.delay_s and not self.every_s:
            raise ValueError("late reports need an every_s above 0")

    @property
    def live(self) -> bool:
        """Whether reports are as true as the worker itself."""
        return not self.every_s


FRESH = Freshness()
OWN = Freshness(load="own", cache="own")


@dataclass(frozen=True, slots=True)
class ClusterRules:
    """A whole cluster: engines, network, routers, and how long changes take."""

    times: EngineTimes
    prefill: int = 4
    decode: int = 4
    engine: EngineRules = EngineRules()
    decode_engine: EngineRules | None = None
    """Of decode workers, where they differ: what they compute of prompts stalls answers."""
    network: NetworkRules = NetworkRules()
    routers: int = 1
    freshness: Freshness = FRESH
    startup_s: float = 60.0
    role_change_s: float = 1.0
    detect_s: float = 3.0
    """From the loss of a worker until routers know."""
    attempts_max: int = 3
    control_every_s: float = 5.0
    window_s: float = 60.0
    """How far back the controller's measurements go."""
    workers_per_host: int = 1
    gpus_per_worker: int = 1
    cores: float = 0
    """Cores that engines without accelerators share; 0 = nobody shares anything."""
    seed: int = 0
    """Decides which router a request comes to."""
    faults: tuple[Fault, ...] = field(default=())

    def __post_init__(self) -> None:
        if min(self.prefill, self.decode) < 0 or self.prefill + self.decode < 1:
            raise ValueError("a cluster has at least one worker")
        counts = (self.routers, self.attempts_max, self.workers_per_host, self.gpus_per_worker)
        if min(counts) < 1:
            raise ValueError("routers, attempts, workers per host, GPUs per worker: at least 1")
        if min(self.startup_s, self.role_change_s, self.detect_s) < 0:
            raise ValueError("startup_s, role_change_s and detect_s: at least 0 each")
        if not min(self.control_every_s, self.window_s) > 0:
            raise ValueError("control_every_s and window_s have to be above 0")

    def engine_of(self, role: Role) -> EngineRules:
        """The scheduler of a worker of this role."""
        if role is Role.DECODE and self.decode_engine is not None:
            return self.decode_engine
        return self.engine


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a worker: it joins ("add"), leaves ("drain") or is lost ("kill").

    `worker` names it; for "add" it names the role, "prefill" or "decode".
    """

    at_s: float
    what: Literal["add", "drain", "kill"]
    worker: str
