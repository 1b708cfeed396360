"""What `benchmarks.plan` expects of a load, from what it has measured of the machine."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from baton.messages import Role
from simulator.cluster_model import Cluster
from simulator.engine_model.times import EngineTimes
from simulator.planning.replay import cluster_of
from simulator.planning.setups import Hardware, Setup
from simulator.planning.terms import Kind, Promises
from simulator.results import Outcome, percentile
from simulator.rules import EngineRules, NetworkRules
from simulator.traces.request import Request, Trace, blocks_of

KV_BYTES_PER_TOKEN = 4096
CHUNK_TOKENS = 1024
KV_GIB = 0.5
PROMPT, ANSWER = (64, 512), (8, 24)
"""Tokens, uniform between these."""
SPLITS: dict[str, tuple[Role | None, ...]] = {
    "1P2D": (Role.PREFILL, Role.DECODE, Role.DECODE),
    "2P1D": (Role.PREFILL, Role.PREFILL, Role.DECODE),
}
PAIR: tuple[Role | None, ...] = (Role.PREFILL, Role.DECODE, None)
"""What the machine is measured with."""
_BATCH = 2
"""Requests in a step of these loads once the cores are busy: 131 in 12 s kept them 107 % busy."""
_LOAD_MAX, _PACE_MIN = 0.9, 0.1
_ANY = Promises(60.0, 60.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds, one for each request."""

    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]

    def p90_s(self, what: str) -> float:
        """Of `ttft_s` or `tpot_s`."""
        return percentile(getattr(self, what), 0.9)


@dataclass(frozen=True, slots=True)
class Taken:
    """Processor time, in seconds: of all engines, and of clients, router and workers."""

    engines: float
    beside: float

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.engines - other.engines, self.beside - other.beside)

    def __truediv__(self, number: float) -> Taken:
        return Taken(self.engines / number, self.beside / number)


@dataclass(frozen=True, slots=True)
class Machine:
    """Engines and cores, as measured while no more engines than one compute, and what changes under
    a load."""

    times: EngineTimes
    cores: float
    latency_s: float
    """Of one request on idle cores until its first token, without computing."""
    idle: Taken
    """In a second in which nobody asks."""
    beside: float = 0.0
    """What clients, router and workers take for each second that an engine computes."""

    def __str__(self) -> str:
        return (
            f"{self.beside:.0%} of what engines take is taken beside; "
            f"{self.latency_s * 1e3:.1f} ms of a request's way are no computing"
        )

    def under_load(self, trace: Trace, seconds: float, taken: Taken) -> Machine:
        """Knows what is taken beside, as a load on `PAIR` showed."""
        computing = computing_s(self, PAIR, trace) * self.pace(PAIR, trace, seconds, taken)
        beside = (taken.beside - self.idle.beside * seconds) / computing
        return replace(self, beside=max(beside, 0.0))

    def pace(
        self, roles: Iterable[Role | None], trace: Trace, seconds: float, taken: Taken
    ) -> float:
        """How many times the processor time engines took for a load that they should have taken."""
        computing = computing_s(self, roles, trace)
        # While an engine computes it does not look whether there is something to do.
        looking = self.idle.engines * max(seconds - computing / len(PAIR), 0.0)
        return max((taken.engines - looking) / computing, _PACE_MIN)

    def slowed(self, pace: float) -> Machine:
        """The same while all of it takes so many times as long."""
        return replace(
            self,
            times=self.times.slowed(pace),
            latency_s=self.latency_s * pace,
        )

    def capacity(self) -> float:
        """Requests per second that keep all cores busy that engines can have, at a small batch."""
        prompt, answer = sum(PROMPT) / 2, sum(ANSWER) / 2
        step_s = self.times.step_s(_BATCH, _BATCH * prompt) / _BATCH
        computing_s = self.times.prefill_s(int(prompt)) + answer * step_s
        return min(self.cores, len(PAIR)) / (computing_s * (1 + self.beside))

    def hardware(self, latency_s: float) -> Hardware:
        """The engines, on the cores that are left to them: clients, router and workers are busy
        when engines are."""
        left = (self.cores - self.idle.beside) / (1 + self.beside)
        # Workers of one machine: all that is not computing is the way of the KV.
        network = NetworkRules(bytes_per_s=4e9, host_bytes_per_s=4e9, latency_s=latency_s)
        kv_tokens = int(KV_GIB * 2**30 / KV_BYTES_PER_TOKEN)
        rules = EngineRules(kv_tokens, CHUNK_TOKENS, 256)
        return Hardware("these cores", self.times, rules, network=network, cores=left)


def predicted(machine: Machine, roles: Iterable[Role | None], trace: Trace) -> Seen:
    """What every request of a load will see.

    The way of a request waits for cores, too: the busier they are, the longer it takes, in the mean
    as in a queue that is served in turns (1 / (1 - load)).
    """
    roles = tuple(roles)
    busy_s = computing_s(machine, roles, trace) * (1 + machine.beside)
    load = min(busy_s / trace.seconds / machine.cores, _LOAD_MAX)
    found, _ = _run(machine.hardware(machine.latency_s / (1 - load)), roles, trace)
    return Seen(tuple(r.ttft_s for r in found.records), tuple(r.tpot_s for r in found.records))


def computing_s(machine: Machine, roles: Iterable[Role | None], trace: Trace) -> float:
    """Seconds of one core that engines compute for a load."""
    _, cluster = _run(machine.hardware(machine.latency_s), tuple(roles), trace)
    assert cluster.fleet.cores is not None
    return cluster.fleet.cores.taken_s


def _run(
    hardware: Hardware, roles: tuple[Role | None, ...], trace: Trace
) -> tuple[Outcome, Cluster]:
    prefill, decode = roles.count(Role.PREFILL), roles.count(Role.DECODE)
    cluster = cluster_of(Setup(hardware, Kind.DISAGGREGATED, prefill, decode), _ANY)
    return cluster.run(trace), cluster


def made(per_s: float, seconds: float, seed: int) -> Trace:
    """Arrivals at random, prompts that share nothing."""
    chance, at_s = random.Random(seed), 0.0
    requests: list[Request] = []
    while (at_s := at_s + chance.expovariate(per_s)) < seconds:
        number, prompt = len(requests), chance.randint(*PROMPT)
        keys = tuple(range(number * 100, number * 100 + blocks_of(prompt)))
        requests.append(Request(number, at_s, prompt, chance.randint(*ANSWER), keys))
    return Trace(f"{per_s:.2f}/s", tuple(requests))
