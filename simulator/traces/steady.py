"""Made-up sessions of a load that has long begun: as many end as others begin."""

from __future__ import annotations

import math
from dataclasses import replace

from simulator.traces.generator import AGENT, CHAT, Workload, generate
from simulator.traces.request import Trace
from simulator.traces.shape import at_load

KINDS = {"chat": 0.0, "agents": 1.0, "mixed": 0.3}
"""By name: the share of sessions that are agents'."""
REQUESTS_MAX = 1_000_000
_ANSWER_TOKEN_S = 0.02
_RAMP_LIVES = 4
"""Mean lives of a session until, near enough, as many are under way as ever will be."""


def steady(kind: str, per_second: float, requests: int, seed: int = 0) -> Trace:
    """So many requests at this mean load, without the first ones, which find nobody else there.

    Raises KeyError for a kind that is not in KINDS.
    """
    share = KINDS[kind]
    manners = [m for m, of_all in ((CHAT, 1 - share), (AGENT, share)) if of_all]
    life_s = max(
        (m.turns - 1) * (m.gap_s.mean + m.answer_tokens.mean * _ANSWER_TOKEN_S) for m in manners
    )
    ramp = min(math.ceil(_RAMP_LIVES * life_s * per_second), REQUESTS_MAX - requests)
    load = Workload(
        requests + ramp,
        per_second / (CHAT.turns * (1 - share) + AGENT.turns * share),
        seed=seed,
        agent_share=share,
        answer_token_s=_ANSWER_TOKEN_S,
    )
    drawn = generate(load)
    late = tuple(replace(r, number=n) for n, r in enumerate(drawn.requests[ramp:]))
    # What is left to stretch: chance, and sessions that end because they have become too long.
    found = at_load(replace(drawn, requests=late), per_second)
    return replace(found, name=f"{kind} at {per_second:g}/s")
