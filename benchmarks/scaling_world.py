"""The clusters and the loads behind `benchmarks.scaling`.

The ramp is llm-d's published benchmark of its control law (epp-saturation-benchmark.md in
llm-d-incubation/workload-variant-autoscaler): Qwen3-32B on two H100, 3,500 to 4,500 tokens in, 900
to 1,100 out, evenly spaced arrivals in stages of 2, 4, 6, 8, 10, 4, 1 requests/s, 12,480 requests
in all, TTFT 3 s and TPOT 100 ms, 3 to 8 workers. Its engine here is calibrated to what was
published of it: a prompt of 8,192 tokens takes 0.40 s, and one worker that does both sustains 1.45
requests/s. KV memory is what two H100 leave beside the weights: 144 GB less 65 GB and 7 GB, at 256
KiB a token. Two prefill and six decode workers then sustain 11.2 requests/s, so that the peak
keeps 89 % of them busy; eight that do both sustain 11.6, as published (86 %).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path

from benchmarks.scaling_laws import Counts
from simulator.engine_model.times import EngineTimes
from simulator.results import Slo
from simulator.rules import EngineRules, Fault
from simulator.traces.formats import read_azure
from simulator.traces.request import Request, Trace, blocks_of

QWEN3_32B = EngineTimes(
    prefill_floor_s=0.020,
    prefill_fixed_s=0.010,
    prefill_token_s=3.7e-5,
    prefill_pair_s=2.59e-9,
    prefill_cached_s=0.0,
    step_low_s=0.0165,
    step_low_request_s=5e-5,
    step_high_s=0.0165,
    step_high_request_s=5e-5,
    step_kv_token_s=4.4e-8,
    kv_bytes_per_token=262_144,
)
QWEN3_ENGINE = EngineRules(kv_tokens=275_000, max_batched_tokens=8192, max_running=256)
RAMP = ((2, 330), (4, 360), (6, 360), (8, 360), (10, 360), (4, 360), (1, 300))
"""(requests/s, seconds)"""


_SLO = Slo(3.0, 0.1)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of a made-up load. Token counts are uniform between their bounds."""

    per_s: float
    seconds: float
    prompt: tuple[int, int] = (3500, 4500)
    answer: tuple[int, int] = (900, 1100)
    even: bool = False
    """Evenly spaced arrivals instead of random ones (Poisson)."""


def made(name: str, stages: Iterable[Stage], seed: int) -> Trace:
    """The load of these stages, one after the other. Prompts share nothing."""
    chance, start_s = random.Random(seed), 0.0
    requests: list[Request] = []
    for stage in stages:
        for at_s in _arrivals(stage, chance):
            number = len(requests)
            prompt, answer = chance.randint(*stage.prompt), chance.randint(*stage.answer)
            first = number * 100_000
            keys = tuple(range(first, first + blocks_of(prompt)))
            requests.append(Request(number, start_s + at_s, prompt, answer, keys))
        start_s += stage.seconds
    return Trace(name, tuple(requests))


def ramp(seed: int) -> Trace:
    """The published ramp; the seed draws the lengths."""
    return made("ramp", (Stage(per_s, seconds, even=True) for per_s, seconds in RAMP), seed)


def _arrivals(stage: Stage, chance: random.Random) -> Iterator[float]:
    at_s = 0.0 if stage.even else chance.expovariate(stage.per_s)
    while at_s < stage.seconds - 1e-9:
        yield at_s
        at_s += 1 / stage.per_s if stage.even else chance.expovariate(stage.per_s)


@lru_cache(maxsize=2)
def azure_of(path: Path) -> Trace:
    """The recorded conversations. Raises TraceError."""
    return read_azure(path)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, the cluster that it meets, and what it is promised."""

    name: str
    load: Callable[[int, Path], Trace]
    """By seed; the path is that of the recording, where there is one."""
    least: Counts
    most: Counts
    """The static peak: the fewest workers that attain 99 %. Also the budget of all laws."""
    start: Counts
    slo: Slo = _SLO
    prompt_tokens: float = 4000.0
    answer_tokens: int = 1000
    times: EngineTimes = QWEN3_32B
    engine: EngineRules = QWEN3_ENGINE
    faults: tuple[Fault, ...] = ()
    settled_s: float = 0.0
    """Actions are counted from here on."""


def slower(times: EngineTimes, factor: float) -> EngineTimes:
    """The same engine with a model so many times as costly."""
    names = [field.name for field in fields(times) if field.name.endswith("_s")]
    return replace(times, **{name: getattr(times, name) * factor for name in names})


def _burst(seed: int) -> Trace:
    """Chats, and for two minutes prompts of 6,000 to 10,000 tokens instead."""
    calm = Stage(6, 900, (500, 1500), (200, 400))
    long = Stage(6, 120, (6000, 10_000), (200, 400))
    return made("burst", (calm, long, calm), seed)


def _shift(seed: int) -> Trace:
    """From long prompts with short answers to short prompts with long answers, and back."""
    reading = Stage(12, 1200, (3500, 4500), (80, 120))
    writing = Stage(6, 1200, (300, 700), (900, 1100))
    return made("shift", (reading, writing, reading), seed)


def _constant(per_s: float, seed: int, _: Path) -> Trace:
    return made("constant", (Stage(per_s, 9000),), seed)


def _azure(path: Path, seed: int) -> Trace:
    """The recording; the seed moves each arrival by up to two seconds."""
    chance = random.Random(seed)
    moved = [
        replace(request, arrival_s=request.arrival_s + chance.uniform(0, 2))
        for request in azure_of(path).requests
    ]
    moved.sort(key=lambda request: request.arrival_s)
    return Trace("azure", tuple(replace(r, number=n) for n, r in enumerate(moved)))


TRACE = Path(__file__).resolve().parent.parent.parent / "shared/traces/azure2023_conv.csv"
_LARGE = Counts(2, 6)
SCENARIOS = {
    "random ramp": Scenario(
        "random ramp",
        lambda seed, _: made("random ramp", (Stage(*stage) for stage in RAMP), seed),
        Counts(1, 2),
        _LARGE,
        Counts(1, 2),
    ),
    "ramp": Scenario("ramp", lambda seed, _: ramp(seed), Counts(1, 2), _LARGE, Counts(1, 2)),
    "azure": Scenario(
        "azure",
        lambda seed, path: _azure(path, seed),
        Counts(1, 1),
        Counts(4, 2),
        Counts(2, 2),
        Slo(3.0, 0.25),
        1155.0,
        211,
        slower(QWEN3_32B, 6.0),
    ),
    "burst": Scenario(
        "burst",
        lambda seed, _: _burst(seed),
        Counts(1, 1),
        Counts(3, 2),
        Counts(1, 1),
        Slo(3.0, 0.1),
        1000.0,
        300,
    ),
    "shift": Scenario(
        "shift",
        lambda seed, _: _shift(seed),
        Counts(1, 1),
        Counts(3, 2),
        Counts(3, 1),
        Slo(3.0, 0.1),
        4000.0,
        300,
    ),
    "lost": Scenario(
        "lost",
        lambda seed, _: made("lost", (Stage(4, 2400),), seed),
        Counts(1, 2),
        _LARGE,
        Counts(1, 3),
        faults=(Fault(1200.0, "kill", "worker-1"), Fault(1800.0, "kill", "worker-0")),
    ),
    **{
        f"constant {per_s}": Scenario(
            f"constant {per_s}",
            partial(_constant, per_s),
            Counts(1, 2),
            _LARGE,
            Counts(1, 3),
            settled_s=1800.0,
        )
        for per_s in (3, 4, 5, 6, 7)
    },
}


def scenario_of(name: str) -> Scenario:
    """Raises KeyError for an unknown name."""
    return SCENARIOS[name]
