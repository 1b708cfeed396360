"""The whole plan: the cheapest cluster of each kind, how sure that is, and at which load it turns.

Everything is replayed at a mean load that the caller has given to the trace. Searches look at one
seed; what they find is checked with the others, and gets workers until the mean over all keeps the
promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulator.planning.replay import Trial, replay
from simulator.planning.search import Start, cheapest, first_start, need_of, walked
from simulator.planning.setups import Family, Hardware, Setup
from simulator.planning.surety import Surety, surety
from simulator.planning.terms import Kind, Promises
from simulator.traces.request import Trace
from simulator.traces.shape import at_load, first, spread, step_s

LADDER = (0.25, 0.5, 2.0, 4.0)
"""Loads at which it is asked again what is cheapest, in parts of the first."""
_MORE_MAX = 4


class PlanError(ValueError):
    """A question that has no answer. Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned. `hardware` are the choices of engine, `ladder` other loads to ask."""

    trace: Trace
    promises: Promises
    hardware: tuple[Hardware, ...]
    gpus_max: int = 64
    seeds: int = 3
    kinds: tuple[Kind, ...] = tuple(Kind)
    ladder: tuple[float, ...] = LADDER
    first_look: int = 3000
    """Requests of the trace that searches begin with; what they find is put right on all of it."""
    as_recorded: bool = False
    """Requests of one step of the recording's clock come at once, as it says."""

    def __post_init__(self) -> None:
        if not (self.trace.requests and self.trace.seconds):
            raise PlanError(f"the requests of {self.trace.name} all come at once: no load to plan")
        if not (self.hardware and self.kinds):
            raise PlanError("a plan needs a profile and a kind of cluster")
        if self.seeds < 1:
            raise PlanError("a plan needs at least one seed")
        if not self.families:
            cores = max(h.cores for h in self.hardware)
            room = f"{self.gpus_max} GPUs" + (f" and {cores} cores" if cores else "")
            raise PlanError(f"{room} are fewer than one cluster of these kinds takes")

    @property
    def families(self) -> tuple[Family, ...]:
        """All that fit into the GPUs that are allowed."""
        each = (Family(h, k) for h in self.hardware for k in self.kinds)
        return tuple(f for f in each if f.least <= f.hardware.most(self.gpus_max))


@dataclass(frozen=True, slots=True)
class Found:
    """The best of a family: the cheapest that keeps the promises, or what comes nearest."""

    trial: Trial
    sure: Surety

    near: bool = False
    """Kept with the first seed, but not in the mean over all."""

    @property
    def keeps(self) -> bool:
        """Whether the mean over seeds keeps the promises."""
        return self.trial.keeps and not self.near


@dataclass(frozen=True, slots=True)
class Point:
    """The cheapest of each kind at one load; a kind that is missing does not fit into the GPUs
    allowed. At loads other than the question's it is by the first look and one seed alone."""

    per_s: float
    cheapest: Mapping[Kind, Setup]

    def gpus(self, kind: Kind) -> int | None:
        """What the cheapest costs."""
        setup = self.cheapest.get(kind)
        return setup.gpus if setup else None


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. `found` is ordered: those that keep the promises first, the cheapest first."""

    question: Question
    found: tuple[Found, ...]
    points: tuple[Point, ...]
    tried: tuple[Trial, ...]
    """Every cluster that was replayed at the load itself."""
    hopeless: float
    """Share of prompts that no engine computes within the promised TTFT, even alone."""
    step_s: float
    """Step of the recording's clock, over which requests were spread."""

    @property
    def best(self) -> Found | None:
        """The cheapest that keeps the promises; None if there is none."""
        return self.found[0] if self.found and self.found[0].keeps else None

    def of(self, kind: Kind) -> Found | None:
        """The best of a kind over all hardware."""
        return next((f for f in self.found if f.trial.setup.kind is kind), None)


@dataclass(slots=True)
class Replays:
    """Runs clusters at one load, each once per seed."""

    question: Question
    trace: Trace
    say: Callable[[str], None]
    done: dict[Setup, Trial] = field(default_factory=dict)

    def __call__(self, setup: Setup) -> Trial:
        """With the first seed; given up as soon as it is lost."""
        if setup not in self.done:
            self.done[setup] = trial = self._run(setup, 0, give_up=True)
            mark = "keeps" if trial.keeps else f"lacks {trial.lack}"
            share = f"{trial.attained:.1%}" + ("" if trial.whole else " when given up")
            self.say(f"{self.trace.per_second:.2f}/s  {setup}: {share}, {mark}")
        return self.done[setup]

    def whole(self, setup: Setup) -> list[Trial]:
        """With all seeds, to the end."""
        first = self.done.get(setup)
        trials = [first] if first and first.whole else [self._run(setup, 0)]
        trials += [self._run(setup, seed) for seed in range(1, self.question.seeds)]
        self.done[setup] = trials[0]
        return trials

    def _run(self, setup: Setup, seed: int, *, give_up: bool = False) -> Trial:
        trace = self.trace
        if not self.question.as_recorded:
            trace = spread(trace, step_s(trace), seed)
        return replay(setup, trace, self.question.promises, seed, give_up=give_up)


def plan(question: Question, say: Callable[[str], None] = lambda _: None) -> Plan:
    """Answers it. `say` hears of each replay. Raises PlanError."""
    replays = Replays(question, question.trace, say)
    look = Replays(question, first(question.trace, question.first_look), say)
    found = sorted((_find(f, look, replays) for f in question.families), key=_rank)
    points = sorted(_points(question, found, say), key=lambda p: p.per_s)
    return Plan(
        question,
        tuple(found),
        tuple(points),
        tuple(replays.done.values()),
        _hopeless(question),
        0.0 if question.as_recorded else step_s(question.trace),
    )


def _rank(found: Found) -> tuple[bool, int, float]:
    dearer = found.trial.setup.gpus if found.keeps else 0
    return not found.keeps, dearer, -found.sure.mean


# --- one family -----------------------------------------------------------------------------------


def _find(family: Family, look: Replays, replays: Replays) -> Found:
    question = replays.question
    most = family.hardware.most(question.gpus_max)
    start = first_start(
        family, need_of(look.trace, family.hardware, question.promises), question.promises
    )
    if len(look.trace.requests) < len(replays.trace.requests):
        guess = cheapest(family, look, most, start).setup
        start = Start(guess.workers, _along(guess, family))
    best = _surely(cheapest(family, replays, most, start), replays)
    return _surer(best, family, most, replays) if best.near else best


def _surer(near: Found, family: Family, most: int, replays: Replays) -> Found:
    """What keeps the promises in the mean: as many workers in the options beside it, else more."""
    setup, along = near.trial.setup, _along(near.trial.setup, family)
    options = family.options(setup.workers)
    at = options.index(setup)
    for option in options[max(at - 1, 0) : at + 2]:
        if option != setup and (beside := _surely(replays(option), replays)).keeps:
            return beside
    best = near
    for workers in range(setup.workers + 1, min(setup.workers + _MORE_MAX, most) + 1):
        trial, along = walked(family.options(workers), along, replays)
        if (best := _surely(trial, replays)).keeps:
            break
    return best


def _surely(trial: Trial, replays: Replays) -> Found:
    """With all seeds: promises are kept when their mean says so."""
    trials = replays.whole(trial.setup)
    sure = surety([t.kept for t in trials])
    near = trials[0].keeps and sure.mean < replays.question.promises.share
    return Found(trials[0], sure, near)


def _along(setup: Setup, family: Family) -> float:
    options = family.options(setup.workers)
    return options.index(setup) / max(len(options) - 1, 1)


# --- other loads ----------------------------------------------------------------------------------


def _points(question: Question, found: Sequence[Found], say: Callable[[str], None]) -> list[Point]:
    """The cheapest of each kind at each load; searches start from the nearest load's answer."""
    points = [Point(question.trace.per_second, _cheapest(f.trial.setup for f in found if f.keeps))]
    up, down = [f for f in question.ladder if f > 1], [f for f in question.ladder if f < 1]
    for factors in (sorted(up), sorted(down, reverse=True)):
        near, before = [f.trial.setup for f in found], 1.0
        for factor in factors:
            replays = Replays(question, _scaled(question, factor), say)
            again = [_again(setup, factor / before, replays) for setup in near]
            points.append(Point(question.trace.per_second * factor, _cheapest(filter(None, again))))
            near = [new or old for new, old in zip(again, near, strict=True)]
            before = factor
    return points


def _cheapest(setups: Iterable[Setup]) -> dict[Kind, Setup]:
    """Of each kind there is."""
    return {s.kind: s for s in sorted(setups, key=lambda s: s.gpus, reverse=True)}


def _scaled(question: Question, factor: float) -> Trace:
    try:
        begin = first(question.trace, question.first_look)
        return at_load(begin, question.trace.per_second * factor)
    except ValueError as error:
        raise PlanError(str(error)) from None


def _again(setup: Setup, factor: float, replays: Replays) -> Setup | None:
    family = Family(setup.hardware, setup.kind)
    most = setup.hardware.most(replays.question.gpus_max)
    workers = max(round(setup.workers * factor), family.least)
    trial = cheapest(family, replays, most, Start(workers, _along(setup, family)))
    return trial.setup if trial.keeps else None


def _hopeless(question: Question) -> float:
    """Whatever is cached: a cache may help, but nobody can count on it."""
    requests = question.trace.requests
    late = [
        r
        for r in requests
        if min(h.times.prefill_s(r.input_tokens) for h in question.hardware)
        > question.promises.ttft_s
    ]
    return len(late) / len(requests)


def at(question: Question, per_s: float) -> Question:
    """The same question at another load. Raises PlanError."""
    try:
        return replace(question, trace=at_load(question.trace, per_s))
    except ValueError as error:
        raise PlanError(str(error)) from None
