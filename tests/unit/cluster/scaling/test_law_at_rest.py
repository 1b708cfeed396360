"""Under a constant load whose arrivals are random the law leaves the pools alone."""

import random
from collections import deque

from cluster.scaling.law import decide
from cluster.scaling.memory import Memory
from tests.unit.cluster.scaling.sights import counts, pool, rules, sight

EVERY_S, WINDOW_S, STARTUP_S = 5.0, 30.0, 60.0
SETTLED_S = 1800.0
LOADS = (0.165, 0.4875)
"""Busy workers per request per second: what the ramp of `benchmarks.scaling` needs."""


def measured(per_s, hours, seed):
    """(time, requests/s over the window), as a router measures them."""
    chance, inside = random.Random(seed), deque()
    comes = chance.expovariate(per_s)
    for n in range(1, int(hours * 3600 / EVERY_S) + 1):
        now = n * EVERY_S
        while comes <= now:
            inside.append(comes)
            comes += chance.expovariate(per_s)
        while inside and inside[0] < now - WINDOW_S:
            inside.popleft()
        yield now, len(inside) / WINDOW_S


def actions_per_hour(per_s, hours, seed):
    asked, memory = rules(decode_min_workers=2), Memory()
    said = [(1, 3)] * int(STARTUP_S / EVERY_S)
    changes = 0
    for now, rate in measured(per_s, hours, seed):
        ready = [min(past[i] for past in said[-int(STARTUP_S / EVERY_S) :]) for i in (0, 1)]
        view = sight(
            *(pool(ready[i], LOADS[i] * rate, starting=said[-1][i] - ready[i]) for i in (0, 1))
        )
        decision = decide(view, memory, now, asked)
        memory = decision.memory
        said.append(counts(decision))
        if now >= SETTLED_S:
            changes += sum(abs(a - b) for a, b in zip(said[-2], said[-1], strict=True))
    return changes / (hours - SETTLED_S / 3600)


def test_random_arrivals_at_a_constant_rate_move_hardly_anybody():
    assert actions_per_hour(4.0, 2.5, seed=7) <= 2.0
