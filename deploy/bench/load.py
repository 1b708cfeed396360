"""What is asked, and when: a recorded trace, or a mix of lengths that arrives at random."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from baton.errors import StartupError, StartupFault
from simulator.traces.detect import read_any
from simulator.traces.request import Request, Trace, TraceError, blocks_of
from simulator.traces.shape import at_load, cut_inputs, spread, step_s
from simulator.traces.steady import KINDS, REQUESTS_MAX, steady

_EXAMPLE = (
    f"Write IN:OUT[*WEIGHT][,…] in tokens, such as 512:128*3,4096:256, or {', '.join(KINDS)}."
)


@dataclass(frozen=True, slots=True)
class Size:
    """One kind of request in a mix: tokens of its prompt and of its answer."""

    input_tokens: int
    output_tokens: int
    weight: float = 1.0


def read_trace(path: Path, form: str | None, most: int | None, seed: int | None = 0) -> Trace:
    """A recorded load; its format is told from its first line. Requests of one step of a coarse
    clock are spread over it at random, unless `seed` is None. Raises StartupError."""
    try:
        trace = read_any(path, form, most)
    except TraceError as error:
        raise _wrong(str(error)) from None
    return trace if seed is None else spread(trace, step_s(trace), seed)


def mixed(mix: str, per_second: float, seconds: float, seed: int) -> Trace:
    """Requests of a mix that come as a Poisson process, for so long. Raises StartupError."""
    expected = per_second * seconds
    if not (per_second > 0 and seconds > 0 and expected < REQUESTS_MAX):
        raise _wrong(f"{per_second:g} requests/s for {seconds:g} s is no load that can be sent")
    if mix in KINDS:
        return steady(mix, per_second, math.ceil(expected) + 1, seed)
    sizes, rng, fresh = parse_mix(mix), random.Random(seed), count(-1, -1)
    drawn = _poisson(rng, per_second, seconds)
    weights = [size.weight for size in sizes]
    asked = [(at, rng.choices(sizes, weights)[0]) for at in drawn]
    requests = (
        Request(
            number,
            at,
            size.input_tokens,
            size.output_tokens,
            tuple(next(fresh) for _ in range(blocks_of(size.input_tokens))),
        )
        for number, (at, size) in enumerate(asked)
    )
    return Trace(f"{mix} at {per_second:g}/s", tuple(requests))


def parse_mix(text: str) -> list[Size]:
    """The sizes of `IN:OUT[*WEIGHT][,…]`. Raises StartupError."""
    try:
        sizes = [_size(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or any(min(s.input_tokens, s.output_tokens) < 1 for s in sizes):
        raise _wrong(f"{text!r} is no mix", _EXAMPLE)
    if not all(s.weight > 0 and math.isfinite(s.weight) for s in sizes):
        raise _wrong(f"{text!r}: weights have to be above 0", _EXAMPLE)
    return sizes


def shaped(trace: Trace, per_second: float | None, seconds: float | None) -> Trace:
    """The trace at another mean load, and only its first seconds. Raises StartupError."""
    try:
        found = trace if per_second is None else at_load(trace, per_second)
    except ValueError as error:
        raise _wrong(str(error)) from None
    if seconds is None:
        return found
    return replace(found, requests=tuple(r for r in found.requests if r.arrival_s < seconds))


def fitted(trace: Trace, context_max: int | None, least: int = 1) -> tuple[Trace, int]:
    """(requests that the model's context can hold, how many were shortened for that).

    No prompt is shorter than `least` tokens.
    """
    if context_max is None:
        return trace, 0
    requests = tuple(_within(r, context_max, least) for r in trace.requests)
    changed = sum(a != b for a, b in zip(trace.requests, requests, strict=True))
    return replace(trace, requests=requests), changed


def _within(request: Request, context: int, least: int) -> Request:
    """An answer may take half of the context, or what its prompt leaves; the prompt the rest."""
    prompt, answer = max(request.input_tokens, least), request.output_tokens
    if prompt + answer <= context:
        return request
    most = max(min(context // 2, context - least), context - prompt, 1)
    answer = min(answer, most)
    return _cut(replace(request, output_tokens=answer), context - answer)


def _cut(request: Request, most: int) -> Request:
    return cut_inputs(Trace("", (request,)), most).requests[0]


def _poisson(rng: random.Random, per_second: float, seconds: float) -> Iterator[float]:
    at_s = rng.expovariate(per_second)
    while at_s < seconds:
        yield at_s
        at_s += rng.expovariate(per_second)


def _size(text: str) -> Size:
    lengths, star, weight = text.strip().partition("*")
    input_tokens, _, output_tokens = lengths.partition(":")
    return Size(int(input_tokens), int(output_tokens), float(weight) if star else 1.0)


def _wrong(message: str, hint: str = "") -> StartupError:
    return StartupError(StartupFault.SETTINGS_INVALID, message, hint=hint)
