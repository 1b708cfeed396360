"""Which prefill worker gets a request: priced affinity over a set as wide as the view is good.

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
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from baton.costs import PrefillCurve
from router.policy.index import Levels

_PRICE_MAX = 8.0
_IDLE_CONSIDERED = 2
"""Least loaded workers considered beside the warm ones."""
_IDLE_FACTOR = 20.0
"""A worker with less than a twentieth of the mean backlog is all but idle. In the reference setting
at 7 requests/s this costs one fresh router 0.1 points; a factor of 4, or the least queue, 0.3."""
_NEVER = float("inf")
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
    slo_share: float = float("inf")
    """Of what is left of the promise, the part that queue and prefill may use before the smallest
    predicted TTFT wins. Without bound by default: the price already decides when to leave, and a
    hard switch gives away hits just when the pool can least afford it."""
    price_per_slo: float = 5.0
    """Price of work at a mean backlog of one SLO."""
    price_min_exact: float = 1.5
    """Price in an idle pool where it is exactly known what is cached."""


class Pool(NamedTuple):
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


class Prompt(NamedTuple):
    """The request. `left_s` is what remains of its TTFT promise."""

    tokens: int
    homes: tuple[int, ...]
    left_s: float
    known_tokens: int = 0
    """A match up to here says nothing: the whole pool shares it."""
    block_tokens: int = 1
    """What one counts for in the levels."""


class Candidate(NamedTuple):
    """One worker as it was weighed; a tuple, as a dozen are made per decision."""

    worker: int
    cached_tokens: float
    queue_s: float
    ttft_s: float
    cost_s: float


_Weighed = tuple[int, float, float, float, float]
"""The fields of a `Candidate`."""


class Choice(NamedTuple):
    """The explanation record of one decision."""

    worker: int
    why: Why
    price: float
    chosen: Candidate
    """The one that was taken."""
    weighed: Sequence[_Weighed]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that were weighed; made when somebody asks why, which few do."""
        return tuple(map(Candidate._make, self.weighed))


def price(queue_s: Sequence[float], open_mask: int, rules: Rules, *, exact: bool) -> float:
    """What a second of repeated work costs: it grows with the mean backlog.

    Where the queues are known, a worker that is all but idle does repeated work at no cost to
    anybody: else a prefix too hot for one worker would stay there however long its queue.
    """
    workers = open_mask.bit_count()
    every = workers == len(queue_s)
    queues = queue_s if every else [queue_s[w] for w in _members(open_mask)]
    mean_s = sum(queues) / (workers or 1)
    if not exact:
        return min(rules.price_per_slo * mean_s / rules.slo_s, _PRICE_MAX)
    busy_s = min(mean_s, _IDLE_FACTOR * min(queues)) if queues else 0.0
    return min(rules.price_min_exact + rules.price_per_slo * busy_s / rules.slo_s, _PRICE_MAX)


def choose(
    prompt: Prompt, pool: Pool, levels: Levels, rules: Rules, reuse: Reuse, at_price: float
) -> Choice | None:
    """The worker for a request, with the explanation; None when no worker takes requests."""
    if pool.fresh:
        weighed = _weigh(_known(prompt, pool, levels), prompt, pool, at_price)
        guessed = False
    else:
        held = _held(prompt, levels)
        weighed = _weigh(_hoped(prompt, pool, levels, held, reuse), prompt, pool, at_price)
        guessed = not held
    if not weighed:
        return None
    best, limit_s = min(weighed, key=_by_cost), prompt.left_s * rules.slo_share
    if best[_TTFT_S] > limit_s:
        soonest = min(weighed, key=_by_ttft)
        if soonest[_TTFT_S] <= limit_s:
            return Choice(soonest[0], Why.SLO, at_price, Candidate(*soonest), weighed)
    why = _why(best, weighed, guessed)
    return Choice(best[0], why, at_price, Candidate(*best), weighed)


def whom_to_ask(homes: Sequence[int], choice: Choice, most: int = 6) -> tuple[int, ...]:
    """The homes, where every router's requests for this prefix are, then the cheapest others."""
    cheapest = (worker for worker, *_ in sorted(choice.weighed, key=_by_cost))
    return tuple(dict.fromkeys([*homes, *cheapest]))[:most]


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
    return choose(prompt._replace(block_tokens=1), asked, found, rules, Reuse(), at_price)


_CACHED_TOKENS, _QUEUE_S, _TTFT_S, _COST_S = 1, 2, 3, 4
_cached_tokens = itemgetter(_CACHED_TOKENS)
_by_cost = itemgetter(_COST_S, _QUEUE_S)
_by_ttft = itemgetter(_TTFT_S, _QUEUE_S)


@lru_cache(maxsize=1024)
def _members(mask: int) -> tuple[int, ...]:
    """The positions in a mask; masks of pools repeat for as long as membership does."""
    return tuple(w for w in range(mask.bit_length()) if mask >> w & 1)


_Stake = tuple[int, float, float]
"""A worker, the tokens that are cached or expected there, the tokens that followers would lose."""


def _known(prompt: Prompt, pool: Pool, levels: Levels) -> list[_Stake]:
    """The least loaded of each of the longest matches, and the least loaded of the rest."""
    queue_s, _, rest, _ = pool
    tokens, _, _, known, size = prompt
    found: list[_Stake] = []
    for count, mask in levels[:_LEVELS_MAX]:
        # No worker is in two levels.
        if there := mask & rest:
            rest ^= there
            matched = count * size
            cached = (matched if matched < tokens else tokens) if matched > known else 0
            # One worker, as most matches have, is the least loaded of its own.
            alone = not there & (there - 1)
            worker = there.bit_length() - 1 if alone else _least_loaded(queue_s, there, 1)[0]
            found.append((worker, cached, 0.0))
    if rest:
        held = _held(prompt, levels[_LEVELS_MAX:])
        idle = _home_first(_least_loaded(queue_s, rest, _IDLE_CONSIDERED), prompt.homes, pool, rest)
        found += [(worker, _cached(worker, held), 0.0) for worker in idle]
    return found


def _home_first(idle: list[int], homes: Sequence[int], pool: Pool, mask: int) -> list[int]:
    """A home that is as idle as the least loaded goes first.

    Else an idle pool would send everything to its first worker, and use one cache of many.
    """
    least_s = pool.queue_s[idle[0]]
    for home in homes:
        if mask >> home & 1 and pool.queue_s[home] <= least_s:
            return [home, *(worker for worker in idle if worker != home)][:_IDLE_CONSIDERED]
    return idle


def _hoped(prompt: Prompt, pool: Pool, levels: Levels, held: Levels, reuse: Reuse) -> list[_Stake]:
    """The same and the homes, with what a blind router may expect to be there."""
    queue_s, _, open_mask, _ = pool
    rest, found = open_mask, [w for w in prompt.homes if open_mask >> w & 1]
    for _, mask in levels[:_LEVELS_MAX]:
        found += _least_loaded(queue_s, mask & open_mask, 1)
        rest &= ~mask
    found += _least_loaded(queue_s, rest, _IDLE_CONSIDERED)
    workers = dict.fromkeys(found)
    return [(w, *_expected(w, prompt, held, _cached(w, held), reuse)) for w in workers]


def _cached(worker: int, held: Levels) -> int:
    for tokens, mask in held:
        if mask >> worker & 1:
            return tokens
    return 0


def _least_loaded(queue_s: Sequence[float], mask: int, most: int) -> list[int]:
    """So many workers of a mask, the first positions among equals."""
    count = mask.bit_count()
    if count <= most:
        return _few(mask)
    found: list[int] = []
    if count * 2 > len(queue_s):
        # Taking the pool's least until enough are in the mask: processors mispredict a sort.
        left = list(queue_s)
        while (least_s := min(left)) < _NEVER:
            worker = left.index(least_s)
            if mask >> worker & 1:
                found.append(worker)
                if len(found) == most:
                    return found
            left[worker] = _NEVER
    return sorted(_few(mask), key=queue_s.__getitem__)[:most]


def _few(mask: int) -> list[int]:
    """The positions in a mask that is not worth remembering."""
    found: list[int] = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def _held(prompt: Prompt, levels: Levels) -> Levels:
    """Matches that say something, in tokens cut to the prompt."""
    tokens, _, _, known, size = prompt
    return tuple([(min(n * size, tokens), m) for n, m in levels if n * size > known])


def _weigh(stakes: Iterable[_Stake], prompt: Prompt, pool: Pool, at_price: float) -> list[_Weighed]:
    weighed = list[_Weighed]()
    queues_s, curves, _, _ = pool
    tokens, each = prompt.tokens, 1 + at_price
    for worker, cached, lost in stakes:
        fixed_s, token_s, pair_s = curves[worker]
        new, queue_s = tokens - cached, queues_s[worker]
        # PrefillCurve.seconds, written out: this runs a dozen times per decision.
        work_s = fixed_s + new * (token_s + pair_s * (cached + new / 2))
        cost_s = queue_s + each * (work_s + token_s * lost)
        weighed.append((worker, cached, queue_s, queue_s + work_s, cost_s))
    return weighed


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


def _why(best: _Weighed, weighed: Sequence[_Weighed], guessed: bool) -> Why:
    if len(weighed) == 1:
        return Why.ONLY
    warmest = max(map(_cached_tokens, weighed))
    if best[_CACHED_TOKENS] < warmest:
        return Why.CHEAPER
    if not warmest:
        return Why.LEAST_LOADED
    return Why.HOME if guessed else Why.WARMEST
