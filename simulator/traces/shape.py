"""Traces made to fit an experiment: another load, shorter prompts, fewer requests."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from itertools import pairwise

from baton import prefix_keys
from simulator.traces.request import Trace, blocks_of

_START = prefix_keys.salt("trace")


def at_load(trace: Trace, per_second: float) -> Trace:
    """The same requests with all gaps stretched alike, so that the mean load is as given.

    Raises ValueError for a load that is not positive, and for requests that all come at once.
    """
    if not per_second > 0:
        raise ValueError(f"a load has to be above 0 requests per second: {per_second}")
    if not trace.seconds:
        raise ValueError(f"the requests of {trace.name} all come at once: no load to change")
    factor = trace.per_second / per_second
    first_s = trace.requests[0].arrival_s
    return replace(
        trace,
        requests=tuple(
            replace(r, arrival_s=(r.arrival_s - first_s) * factor) for r in trace.requests
        ),
    )


def cut_inputs(trace: Trace, tokens_max: int) -> Trace:
    """Longer prompts lose their tails. Raises ValueError for less than one token."""
    if tokens_max < 1:
        raise ValueError(f"a prompt has at least one token, not {tokens_max}")
    blocks_max = blocks_of(tokens_max)
    return replace(
        trace,
        requests=tuple(
            r
            if r.input_tokens <= tokens_max
            else replace(r, input_tokens=tokens_max, blocks=r.blocks[:blocks_max])
            for r in trace.requests
        ),
    )


def first(trace: Trace, count: int) -> Trace:
    """The first `count` requests, or all if there are fewer."""
    return replace(trace, requests=trace.requests[:count])


def chained(trace: Trace) -> Trace:
    """Block keys as a router would name them: chained, 60 bits, whatever the recorder used."""
    return replace(
        trace,
        requests=tuple(
            replace(r, blocks=prefix_keys.of_hashes(r.blocks, _START)) for r in trace.requests
        ),
    )


def step_s(trace: Trace) -> float:
    """The step in which a recording's clock moved; 0 where most requests came at their own time."""
    times = [r.arrival_s for r in trace.requests]
    distinct = sorted(set(times))
    if len(distinct) < 2 or len(distinct) > len(times) / 2:
        return 0.0
    return statistics.median(b - a for a, b in pairwise(distinct))


def spread(trace: Trace, over_s: float, seed: int) -> Trace:
    """Each request comes later by a random part of `over_s`: one step was not one moment.

    Raises ValueError for a negative time.
    """
    if over_s < 0:
        raise ValueError(f"requests cannot be spread over {over_s} s")
    chance = random.Random(seed)
    moved = [replace(r, arrival_s=r.arrival_s + chance.uniform(0, over_s)) for r in trace.requests]
    moved.sort(key=lambda r: r.arrival_s)
    return replace(trace, requests=tuple(replace(r, number=n) for n, r in enumerate(moved)))
