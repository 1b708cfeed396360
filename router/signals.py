"""What came to one router and how it was served, over a sliding window: for scaling.

Every request counts once as it comes, however it is served, placed again or ended. Demand that was
turned away counts too: with its prompt less what was known to be cached, with the whole prompt
where nothing was known, and as a mean request where nobody read it. A client that is refused and
asks again counts again, for nothing tells it from another. What a tenant's own limits refuse is no
demand, and neither is what cannot be served at all.

Memory is bounded: sums over parts of the window, and the last samples. Times are readings of one
clock in seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from baton.errors import Reason
from baton.ids import RequestId
from baton.settings import Settings
from baton.signals import SAMPLES_MAX
from router.ports import EngineRequest
from router.promises import Promises

DEMAND = frozenset(
    {
        Reason.QUEUE_FULL,
        Reason.WORKER_FULL,
        Reason.NO_WORKER,
        Reason.STARTING,
        Reason.DRAINING,
    }
)
"""Reasons of refusals that more workers would have prevented."""
PARTS = 32
"""The window moves in so many steps."""
_YOUNG_S = 5.0
"""A router younger than this divides by it: its first request is no rate yet."""


@dataclass(frozen=True, slots=True)
class Mix:
    """The mean request of the window, in tokens."""

    prompt: float
    answer: float
    """Expected of it."""
    new: float
    """Uncached, of the prompts that are work for prefill workers; 0 = there were none."""
    cached: float
    """Of the same prompts."""
    ttft_stretch: float = 1.0
    """So many times the model's promise is theirs: the harmonic mean, because what is predicted is
    divided by it."""
    tpot_stretch: float = 1.0

    @property
    def context(self) -> float:
        """Prompt and answer so far, on average over the answer."""
        return self.prompt + self.answer / 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """The window at one moment."""

    prompt_tokens_per_s: float
    """Uncached ones, that come."""
    answer_tokens_per_s: float
    """Expected of what comes."""
    mix: Mix | None
    """Of a window without requests the last one known; None before the first."""
    ttft: tuple[float, ...]
    """Over its promise, of the last requests that got a first token."""
    tpot: tuple[float, ...]
    """Over its promise, of the last answers of more than one token."""


_UNSEEN = Mix(prompt=1000.0, answer=256.0, new=1000.0, cached=0.0)
"""What is taken for a mean request by a router that has not read any."""


@dataclass(slots=True)
class _Part:
    """Sums over a part of the window."""

    number: int
    read: int = 0
    unread: int = 0
    prompt: float = 0.0
    answer: float = 0.0
    divided: int = 0
    """Those whose prompts are work for prefill workers."""
    new: float = 0.0
    cached: float = 0.0
    ttft_strictness: float = 0.0
    """The model's promises over those of the requests."""
    tpot_strictness: float = 0.0


@dataclass(frozen=True, slots=True)
class _Planned:
    """What was predicted of the request that is being placed."""

    request_id: RequestId
    new: float
    cached: float


class Signals:
    """Of one router, in its event loop. `now` is when the router began."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._slo = slo = settings.slo
        self._promises = Promises(settings)
        self._began = now
        self._part_s = slo.window_s / PARTS
        self._parts = deque([_Part(0)], maxlen=PARTS)
        self._ttft: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._tpot: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._planned: _Planned | None = None
        self._last: Mix | None = None

    # --- the life of a request --------------------------------------------------------------------

    def planned(self, request_id: RequestId, new: float, cached: float) -> None:
        """So many tokens of its prompt are work for a prefill worker, or are cached there.

        Counts once that request `came`, if nothing else did before.
        """
        self._planned = _Planned(request_id, new, cached)

    def came(self, request: EngineRequest, now: float) -> None:
        """A request was let in or turned away: once, after it was placed or could not be."""
        known, self._planned = self._planned, None
        part = self._part(now)
        part.read += 1
        part.prompt += request.prompt_tokens
        part.answer += request.output_tokens
        slo, tokens = self._promises.to(request.caller.tenant).slo, request.prompt_tokens
        part.ttft_strictness += self._slo.ttft_of(tokens) / slo.ttft_of(tokens)
        part.tpot_strictness += self._slo.tpot_s / slo.tpot_s
        if known is None or known.request_id != request.request_id:
            known = _Planned(request.request_id, request.prompt_tokens, 0.0)
        if known.new > 0:
            part.divided += 1
            part.new += known.new
            part.cached += known.cached

    def unread(self, requests: int, now: float) -> None:
        """So many requests were turned away before anybody knew their length."""
        self._part(now).unread += requests

    def first_token(self, ratio: float, now: float) -> None:
        """The first token of an answer came, in this part of the time promised for it."""
        self._ttft.append((now, ratio))

    def answered(self, ratio: float, now: float) -> None:
        """An answer is complete, whose tokens took this part of the time promised for each."""
        self._tpot.append((now, ratio))

    # --- the window now ---------------------------------------------------------------------------

    def traffic(self, now: float) -> Traffic:
        """What came and went within the window."""
        total = self._total(now)
        self._last = self._mix(total)
        mix, over_s = self._last or _UNSEEN, self._over_s(now)
        # Who was not read is taken for as often work for prefill as the others.
        share = total.divided / total.read if total.read else 1.0
        new = total.new + total.unread * share * mix.new
        answer = total.answer + total.unread * mix.answer
        ttft, tpot = (self._lately(samples, now) for samples in (self._ttft, self._tpot))
        return Traffic(new / over_s, answer / over_s, self._last, ttft, tpot)

    def _mix(self, total: _Part) -> Mix | None:
        if not total.read:
            return self._last
        new, cached = (s / (total.divided or 1) for s in (total.new, total.cached))
        return Mix(
            total.prompt / total.read,
            total.answer / total.read,
            new,
            cached,
            total.read / total.ttft_strictness,
            total.read / total.tpot_strictness,
        )

    def _lately(self, samples: deque[tuple[float, float]], now: float) -> tuple[float, ...]:
        since = now - self._slo.window_s
        return tuple(ratio for at, ratio in samples if at >= since)

    def _number(self, now: float) -> int:
        # A clock that jumps back adds to the last part.
        return max(int((now - self._began) / self._part_s), self._parts[-1].number)

    def _part(self, now: float) -> _Part:
        number = self._number(now)
        if number != self._parts[-1].number:
            self._parts.append(_Part(number))
        return self._parts[-1]

    def _total(self, now: float) -> _Part:
        number = self._number(now)
        inside = [part for part in self._parts if part.number > number - PARTS]
        return _Part(
            number,
            sum(part.read for part in inside),
            sum(part.unread for part in inside),
            sum(part.prompt for part in inside),
            sum(part.answer for part in inside),
            sum(part.divided for part in inside),
            sum(part.new for part in inside),
            sum(part.cached for part in inside),
            sum(part.ttft_strictness for part in inside),
            sum(part.tpot_strictness for part in inside),
        )

    def _over_s(self, now: float) -> float:
        """Seconds that the parts cover: whole ones, and the one that has begun."""
        number = self._number(now)
        if number < PARTS:
            return max(now - self._began, min(_YOUNG_S, self._slo.window_s))
        first = self._began + (number - PARTS + 1) * self._part_s
        return max(now - first, self._part_s)
