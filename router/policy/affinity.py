"""Which prefill worker gets a request: priced affinity over a candidate set as wide as the view is good.

The cost of a worker is its predicted TTFT plus a *price* on work: the prefill it would have to
repeat, and the prefix that followers will miss when the request strays from where they will look.
The price is zero in an idle pool, where only this request's TTFT counts, and grows with the
backlog, because near saturation every repeated second delays everybody (see `price`). With an
exact fresh view the prefix is where the view says, and the pool's warmest and least loaded workers
compete. Without one, the two homes of the key hold what other routers may have sent there, which
is expected (`Reuse`) and never seen; straying then costs in proportion to the prompt, so that short
prompts balance the pool and long ones stay at home. That is DualMap's rule (stay with the longer
prefix while the SLO holds) with the switch point derived instead of set, and power of two or more
choices when prefixes are everywhere.

The caller supplies a `Pool` (queues as last known plus own dispatches since, cost curves, its
workers as positions), the levels of `index`, and the homes from `rings`. A worker's own answer to
a question replaces what the pool says about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.policy.costs import PrefillCurve
from router.policy.index import Levels

_PRICE_MAX = 8.0
_PER_LEVEL = 2
"""Least loaded workers considered among those that hold equally much."""
_LEVELS_MAX = 4
"""Longest matches considered; shorter ones are no better than an empty cache nearby."""


class Why(StrEnum):
    """What decided."""

    ONLY = "only"
    WARMEST = "warmest"
    """It holds the most of the prompt."""
    HOME = "home"
    """A home of the key, nothing being known to be warmer."""
    SLO = "slo"
    """The warmer one would have broken the SLO share."""
    CHEAPER = "cheaper"
    """The warmer one's queue costs more than it saves."""
    LEAST_LOADED = "least_loaded"
    """Nobody holds any of it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How much affinity is worth; fitted in the reference setting, see the decision record."""

    slo_s: float = 5.0
    slo_share: float = 1.0
    """Of the SLO, what queue and prefill may use before the smaller predicted TTFT wins."""
    price_per_slo: float = 5.0
    """Price of work at a mean backlog of one SLO."""
    price_min: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers at one moment, by position. `open_mask` has those that take requests."""

    queue_s: Sequence[float]
    curves: Sequence[PrefillCurve]
    open_mask: int
    fresh: bool
    """Whether `levels` are the truth about all of them."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What a blind router expects of prompts it knows nothing about, as shares of the prompt.

    At the first home, at the second, and what followers lose when this request goes to the second
    home or to neither. The defaults are those of the conversation trace.
    """

    first: float = 0.30
    second: float = 0.10
    lost_second: float = 0.36
    lost_elsewhere: float = 0.80

    def scaled(self, factor: float) -> Reuse:
        """The same shape for a workload with more or less reuse."""
        parts = (self.first, self.second, self.lost_second, self.lost_elsewhere)
        return Reuse(*(min(part * factor, 0.95) for part in parts))


@dataclass(frozen=True, slots=True)
class Prompt:
    """The request. `left_s` is what remains of its TTFT promise."""

    tokens: int
    homes: tuple[int, ...]
    left_s: float
    known_tokens: int = 0
    """A match up to here says nothing: the whole pool shares it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker as it was weighed."""

    worker: int
    cached_tokens: float
    queue_s: float
    ttft_s: float
    cost_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The explanation record of one decision."""

    worker: int
    why: Why
    price: float
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The one that was taken."""
        return next(c for c in self.candidates if c.worker == self.worker)


def price(queue_s: Sequence[float], open_mask: int, rules: Rules) -> float:
    """What a second of repeated work costs: it grows with the mean backlog."""
    loads = [q for worker, q in enumerate(queue_s) if open_mask >> worker & 1]
    mean_s = sum(loads) / max(len(loads), 1)
    return min(rules.price_min + rules.price_per_slo * mean_s / rules.slo_s, _PRICE_MAX)


def choose(
    prompt: Prompt, pool: Pool, levels: Levels, rules: Rules, reuse: Reuse, at_price: float
) -> Choice | None:
    """The worker for a request, with the explanation; None when no worker takes requests."""
    held = _held(prompt, levels)
    weighed = [
        _weigh(worker, prompt, pool, held, reuse, at_price)
        for worker in _considered(prompt, pool, levels)
    ]
    if not weighed:
        return None
    best = min(weighed, key=_by_cost)
    if best.ttft_s > prompt.left_s * rules.slo_share:
        soonest = min(weighed, key=_by_ttft)
        if soonest.ttft_s <= prompt.left_s * rules.slo_share:
            return Choice(soonest.worker, Why.SLO, at_price, tuple(weighed))
    return Choice(best.worker, _why(best, weighed, prompt, held), at_price, tuple(weighed))


def whom_to_ask(choice: Choice, pool: Pool, most: int = 6) -> tuple[int, ...]:
    """The candidates whose answers can change the choice: the cheapest, then the least loaded."""
    order = [c.worker for c in sorted(choice.candidates, key=_by_cost)][: max(most // 2, 2)]
    idle = sorted(_open(pool), key=pool.queue_s.__getitem__)
    return tuple(dict.fromkeys([*order, *idle]))[:most]


def choose_answered(
    prompt: Prompt,
    answers: Iterable[tuple[int, float, int]],
    pool: Pool,
    rules: Rules,
    at_price: float,
) -> Choice | None:
    """The choice among those that answered (worker, queue in seconds, tokens cached)."""
    levels: dict[int, int] = {}
    queue_s, mask = list(pool.queue_s), 0
    for worker, queued_s, cached in answers:
        queue_s[worker] = queued_s
        levels[cached] = levels.get(cached, 0) | 1 << worker
        mask |= 1 << worker
    asked = Pool(queue_s, pool.curves, mask & pool.open_mask, fresh=True)
    found = tuple(sorted(((t, m) for t, m in levels.items() if t), reverse=True))
    return choose(prompt, asked, found, rules, Reuse(), at_price)


def _by_cost(c: Candidate) -> tuple[float, float]:
    return c.cost_s, c.queue_s


def _by_ttft(c: Candidate) -> tuple[float, float]:
    return c.ttft_s, c.queue_s


def _open(pool: Pool) -> list[int]:
    return [w for w in range(len(pool.queue_s)) if pool.open_mask >> w & 1]


def _considered(prompt: Prompt, pool: Pool, levels: Levels) -> list[int]:
    """Homes, the least loaded of each of the longest matches, and the least loaded of the rest."""
    order = sorted(_open(pool), key=pool.queue_s.__getitem__)
    found = [] if pool.fresh else [w for w in prompt.homes if pool.open_mask >> w & 1]
    rest = pool.open_mask
    for _, mask in levels[:_LEVELS_MAX]:
        found += _first(order, mask)
        rest &= ~mask
    found += _first(order, rest)
    return list(dict.fromkeys(found))


def _first(order: Sequence[int], mask: int) -> list[int]:
    found: list[int] = []
    for worker in order:
        if mask >> worker & 1:
            found.append(worker)
            if len(found) == _PER_LEVEL:
                break
    return found


def _held(prompt: Prompt, levels: Levels) -> Levels:
    """Matches that say something, in tokens cut to the prompt."""
    return tuple((min(t, prompt.tokens), m) for t, m in levels if t > prompt.known_tokens)


def _weigh(
    worker: int, prompt: Prompt, pool: Pool, held: Levels, reuse: Reuse, at_price: float
) -> Candidate:
    cached = float(next((t for t, mask in held if mask >> worker & 1), 0))
    lost = 0.0
    if not pool.fresh:
        cached, lost = _expected(worker, prompt, held, cached, reuse)
    curve, queue_s = pool.curves[worker], pool.queue_s[worker]
    work_s = curve.seconds(prompt.tokens - cached, cached)
    ttft_s = queue_s + work_s
    cost_s = ttft_s + at_price * work_s + (1 + at_price) * curve.token_s * lost
    return Candidate(worker, cached, queue_s, ttft_s, cost_s)


def _expected(
    worker: int, prompt: Prompt, held: Levels, cached: float, reuse: Reuse
) -> tuple[float, float]:
    """Tokens that a blind router may expect to be there, and tokens its followers would miss."""
    tokens, homes = prompt.tokens, prompt.homes
    first, second = worker in homes[:1], worker in homes[1:]
    if held:
        # Followers are led by the first home, or by the same memory as this request.
        kept = first or cached >= held[0][0]
        hoped = 0.0
    else:
        kept = first
        hoped = tokens * (reuse.first if first else reuse.second if second else 0.0)
    lost = 0.0 if kept else tokens * (reuse.lost_second if second else reuse.lost_elsewhere)
    return max(cached, hoped), lost


def _why(best: Candidate, weighed: Sequence[Candidate], prompt: Prompt, held: Levels) -> Why:
    if len(weighed) == 1:
        return Why.ONLY
    warmest = max(c.cached_tokens for c in weighed)
    if best.cached_tokens < warmest:
        return Why.CHEAPER
    if not warmest:
        return Why.LEAST_LOADED
    return Why.WARMEST if held else Why.HOME
