"""Who asks how often: open-loop arrivals of a few tenants, at multiples of the capacity. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

OUTPUT_TOKENS = 16
PROMPT_TOKENS = (50, 400)
"""Shortest and longest prompt; all lengths between are equally likely."""
PREFILL_WORKERS = 2
DECODE_WORKERS = 2
STEADY = "steady"
"""The tenant that never asks for more than its share, whatever the others do."""
_SHARES = {"big": 0.60, "other": 0.25, STEADY: 0.15}
"""Of the capacity, at 1x. With equal weights a third is due to each."""


@dataclass(frozen=True, slots=True)
class Times:
    """What the simulated engines take, in seconds."""

    prompt_s: float = 0.010
    prompt_token_s: float = 0.0004
    """Of each token of a prompt."""
    step_s: float = 0.020
    step_request_s: float = 0.0001
    """Of each request in a decode step."""

    def prefill_s(self, tokens: int) -> float:
        """One prompt."""
        return self.prompt_s + self.prompt_token_s * tokens

    def decode_s(self, requests: int) -> float:
        """One step of a batch."""
        return self.step_s + self.step_request_s * requests


def capacity_per_s(times: Times) -> float:
    """Requests a second that all prefill workers together compute; decode is never the limit."""
    return PREFILL_WORKERS / times.prefill_s(sum(PROMPT_TOKENS) // 2)


def times_for(capacity: float) -> Times:
    """Engines that together compute so many requests a second."""
    factor = capacity_per_s(Times()) / capacity
    return Times(Times().prompt_s * factor, Times().prompt_token_s * factor)


@dataclass(frozen=True, slots=True)
class Phase:
    """A time at one multiple of the capacity."""

    multiple: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to be sent, whether or not earlier ones have been answered."""

    at_s: float
    """Since the phase began."""
    multiple: int
    tenant: str
    prompt_tokens: int


def rates(multiple: int, capacity: float) -> dict[str, float]:
    """Requests a second by tenant. What is above 1x comes from all but the steady one."""
    steady = _SHARES[STEADY] * capacity
    grown = (multiple * capacity - steady) / (1 - _SHARES[STEADY])
    others = {name: share * grown for name, share in _SHARES.items() if name != STEADY}
    return {**others, STEADY: steady}


def arrivals(phase: Phase, capacity: float, seed: int) -> Sequence[Arrival]:
    """All requests of a phase in the order of their times, Poisson for each tenant."""
    found = [
        arrival
        for tenant, rate in rates(phase.multiple, capacity).items()
        for arrival in _poisson(phase, tenant, rate, random.Random(f"{seed} {phase} {tenant}"))
    ]
    return sorted(found, key=lambda arrival: arrival.at_s)


def _poisson(phase: Phase, tenant: str, rate: float, chance: random.Random) -> list[Arrival]:
    found: list[Arrival] = []
    at_s = chance.expovariate(rate)
    while at_s < phase.seconds:
        tokens = chance.randint(*PROMPT_TOKENS)
        found.append(Arrival(at_s, phase.multiple, tenant, tokens))
        at_s += chance.expovariate(rate)
    return found
