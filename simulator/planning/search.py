"""The cheapest cluster of a family that keeps the promises, in few replays.

More workers never hurt where none share cores, so their number is enclosed and bisected from a
first guess. Of so many workers the options are walked from where the last number left off, towards
what lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.engine_model.times import EngineTimes
from simulator.planning.replay import Lack, Trial
from simulator.planning.setups import Family, Hardware, Setup
from simulator.planning.terms import Kind, Promises
from simulator.traces.request import Trace

Evaluate = Callable[[Setup], Trial]
_SPARE = 1.15


@dataclass(frozen=True, slots=True)
class Need:
    """Workers that a load keeps busy, if nothing is cached and nothing ever waits."""

    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Start:
    """Where a search begins: how many workers, and how far along their options (0 to 1)."""

    workers: int
    along: float


def cheapest(family: Family, evaluate: Evaluate, workers_max: int, start: Start) -> Trial:
    """The fewest workers that keep the promises; else the best of `workers_max`, which do not.

    Raises ValueError when not even the fewest workers are allowed.
    """
    if workers_max < family.least:
        raise ValueError(f"{family.kind} needs {family.least} workers, {workers_max} are allowed")
    workers, along = min(max(start.workers, family.least), workers_max), start.along
    low, found, stride = family.least - 1, None, max(workers // 8, 1)
    while True:
        trial, along = walked(family.options(workers), along, evaluate)
        if trial.keeps:
            found = trial
        elif found is None and workers == workers_max:
            return trial
        else:
            low = workers
        if found is not None and found.setup.workers - low <= 1:
            return found
        workers = _next(low, found, stride, family.least, workers_max)
        stride *= 2


def _next(low: int, found: Trial | None, stride: int, least: int, most: int) -> int:
    """Strides up or down from the guess until the answer is enclosed; then the middle."""
    if found is None:
        return min(low + stride, most)
    if low < least:
        return max(found.setup.workers - stride, least)
    return (low + found.setup.workers) // 2


def walked(options: tuple[Setup, ...], along: float, evaluate: Evaluate) -> tuple[Trial, float]:
    """The first option that keeps the promises, or the best; and how far along it is."""
    at = round(along * (len(options) - 1))
    tried: dict[int, Trial] = {}
    while 0 <= at < len(options) and at not in tried:
        tried[at] = trial = evaluate(options[at])
        if trial.keeps:
            break
        at += 1 if trial.lack is Lack.PREFILL else -1
    best = max(tried, key=lambda i: (tried[i].keeps, tried[i].attained))
    return tried[best], best / max(len(options) - 1, 1)


def first_start(family: Family, need: Need, promises: Promises) -> Start:
    """Where to begin without experience."""
    whole = need.prefill + need.decode
    if family.kind is not Kind.AGGREGATED:
        prefill, decode = (max(round(n * _SPARE + 0.5), 1) for n in (need.prefill, need.decode))
        workers = prefill + decode
        return Start(workers, (prefill - 1) / max(workers - 2, 1))
    options = family.options(1)
    fitting = [o for o in options if _chunk_s(family.hardware, o.chunk_tokens) <= promises.tpot_s]
    return Start(
        max(round(whole * _SPARE + 0.5), 1), max(len(fitting) - 1, 0) / max(len(options) - 1, 1)
    )


def _chunk_s(hardware: Hardware, tokens: int) -> float:
    return hardware.times.iteration_s(hardware.times.chunk_s(tokens, 0), 1, 0)


def need_of(trace: Trace, hardware: Hardware, promises: Promises) -> Need:
    """From the trace's tokens, the engine's times, and the largest batch within the promise."""
    requests, times = trace.requests, hardware.times
    seconds = max(trace.seconds, 1e-9)
    prefill_s = sum(times.chunk_s(r.input_tokens, 0) for r in requests)
    tokens = sum(r.output_tokens for r in requests)
    context = sum((r.input_tokens + r.output_tokens / 2) * r.output_tokens for r in requests)
    batch = _batch(times, context / tokens, hardware.engine.kv_tokens, promises.tpot_s)
    decode_s = tokens * times.step_s(batch, batch * context / tokens) / batch
    return Need(prefill_s / seconds, decode_s / seconds)


def _batch(times: EngineTimes, context: float, kv_tokens: int, tpot_s: float) -> int:
    """The most requests of this context that fit and are fast enough; at least 1."""
    low, high = 1, max(int(kv_tokens / context), 1)
    while low < high:
        middle = (low + high + 1) // 2
        if times.step_s(middle, middle * context) <= tpot_s:
            low = middle
        else:
            high = middle - 1
    return low
