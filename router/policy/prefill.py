"""The prefill half of one router: key, homes, choice, questions and queue put together.

The router's shell and the simulator each own a `PrefillDesk` per router. The caller supplies, at
each call, the `State` of the pool as it knows it: seconds of work before a new request on each
worker (last report, less the time since, plus own dispatches since), which workers take requests,
and whether the view of their caches is fresh; and at the start a `match` over what it knows to be
cached (`index.BlockIndex` where it is fresh, `index.Shadow` where it is not). The desk answers with
words that the caller carries out at once, and hears what became of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from baton.costs import PrefillCurve
from baton.prefix_keys import ROUTING_BLOCK_TOKENS
from router.policy import affinity
from router.policy.affinity import Choice, Pool, Prompt, Reuse, Rules
from router.policy.hotness import Hotness, RoutingKey
from router.policy.index import Levels
from router.policy.rings import Rings
from router.policy.waiting import Kept, Place, WaitingRoom


@dataclass(frozen=True, slots=True)
class DeskRules:
    """What binds the desk."""

    rules: Rules = field(default_factory=Rules)
    ahead_s: float = 1.0
    """Work that a worker gets ahead; the rest is kept here, where it can still move."""
    may_ask: bool = False
    ask_most: int = 6
    ask_rounds: int = 3
    """Refusals after which a request is sent whatever the worker's queue."""
    slack_s: float = 0.2
    """How much longer than answered a queue may be before the worker should refuse."""


@dataclass(frozen=True, slots=True)
class Request(Kept):
    """One request: `keys` of its routing blocks, `blocks` as the index knows them."""

    tokens: int
    keys: tuple[int, ...]
    blocks: tuple[int, ...]
    block_tokens: int
    routing: RoutingKey | None = None
    homes: tuple[int, ...] = ()
    known_tokens: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """The pool as the caller knows it at this moment."""

    queue_s: Sequence[float]
    open_mask: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class Send:
    """This request goes to this worker, which should refuse when its queue is longer than said."""

    request: Request
    worker: int
    choice: Choice
    queue_max_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Ask:
    """These workers are to say how it would be there."""

    request: Request
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A worker's own word: seconds of work before this request, and tokens of it cached there."""

    worker: int
    queue_s: float
    cached_tokens: int


class PrefillDesk:
    """Owned by one router. Positions of workers are those of `rings.workers`."""

    def __init__(
        self,
        rings: Rings,
        curves: Sequence[PrefillCurve],
        match: Callable[[Sequence[int]], Levels],
        rules: DeskRules | None = None,
    ) -> None:
        self._rings = rings
        self._curves = curves
        self._match = match
        self._rules = rules or DeskRules()
        self._hotness = Hotness(rings.size)
        self._room: WaitingRoom[Request] = WaitingRoom(self._rules.ahead_s)
        self._rounds: dict[int, int] = {}
        self.reuse = ReuseMeter()

    def __len__(self) -> int:
        return len(self._room)

    def members(self, rings: Rings) -> None:
        """The pool has changed."""
        self._rings = rings
        self._hotness.resize(rings.size)
        self._room.change(self._housed)

    def at_home(self, request: Request) -> Request:
        """The request with its homes; counts it as traffic of its prefix, so once per request."""
        if not request.keys:
            return request
        return self._housed(replace(request, routing=self._hotness.observe(request.keys)))

    def preview(self, request: Request, state: State, now: float) -> Choice | None:
        """Where a request would go if it were sent at once; None when no worker is open."""
        return self._choose(request, state, now)

    def arrived(self, request: Request, state: State, now: float) -> list[Send | Ask]:
        """A new request: it is sent, kept, or its candidates are asked."""
        return self.placed(self.at_home(request), state, now, ask=self._rules.may_ask)

    def placed(self, request: Request, state: State, now: float, *, ask: bool) -> list[Send | Ask]:
        """A request that is `at_home`, new or refused by the worker it was sent to."""
        if not ask:
            self._room.add(request)
            return self.released(state, now)
        choice = self._choose(request, state, now)
        if choice is None:
            self._room.add(request)
            return []
        self._rounds.setdefault(request.number, 0)
        return [Ask(request, affinity.whom_to_ask(request.homes, choice, self._rules.ask_most))]

    def released(self, state: State, now: float) -> list[Send | Ask]:
        """Something changed: who can be sent now."""
        choices: dict[int, Choice] = {}

        def place(request: Request, queue_s: Sequence[float]) -> Place | None:
            there = State(queue_s, state.open_mask, state.fresh)
            choice = self._choose(request, there, now, price)
            if choice is None:
                return None
            choices[request.number] = choice
            return Place(choice.worker, choice.chosen.ttft_s - choice.chosen.queue_s)

        price = self._price(state)
        sent = self._room.release(state.queue_s, state.open_mask, now, place)
        return [Send(request, at.worker, choices[request.number]) for request, at in sent]

    def answered(
        self, request: Request, answers: Sequence[Answer], state: State, now: float
    ) -> list[Send | Ask]:
        """The candidates' own words, or what a worker said when it refused."""
        facts = [(a.worker, a.queue_s, a.cached_tokens) for a in answers]
        queues = [a.queue_s for a in answers]
        at_price = affinity.price(queues, (1 << len(queues)) - 1, self._rules.rules, exact=True)
        choice = affinity.choose_answered(
            self._prompt(request, now), facts, self._pool(state), self._rules.rules, at_price
        )
        if choice is None:
            self._room.add(request)
            return self.released(state, now)
        rounds = self._rounds[request.number] = self._rounds.get(request.number, 0) + 1
        limit_s = choice.chosen.queue_s + self._rules.slack_s
        last = rounds > self._rules.ask_rounds
        return [Send(request, choice.worker, choice, float("inf") if last else limit_s)]

    def computed(self, send: Send, cached_tokens: int) -> None:
        """The worker has computed a prompt, of which it held so many tokens."""
        self._rounds.pop(send.request.number, None)
        self.reuse.note(send.request, send.worker, send.choice, cached_tokens)

    def next_room_s(self, state: State) -> float | None:
        """In how many seconds to call `released` if nothing else happens."""
        return self._room.next_room_s(state.queue_s, state.open_mask)

    def left(self, number: int) -> bool:
        """A client has gone; whether its request was still here."""
        self._rounds.pop(number, None)
        return self._room.remove(number) is not None

    def _housed(self, request: Request) -> Request:
        key = request.routing
        if key is None:
            return request
        # Who may ask has as many homes as questions: every router finds what another sent there.
        copies = max(key.copies, self._rules.ask_most) if self._rules.may_ask else key.copies
        homes = self._rings.candidates(key.key, copies)
        known = (key.blocks - 1) * ROUTING_BLOCK_TOKENS
        return replace(request, homes=homes, known_tokens=known)

    def _choose(
        self, request: Request, state: State, now: float, at_price: float | None = None
    ) -> Choice | None:
        if at_price is None:
            at_price = self._price(state)
        prompt, pool = self._prompt(request, now), self._pool(state)
        levels, reuse = self._match(request.blocks), self.reuse.expected
        return affinity.choose(prompt, pool, levels, self._rules.rules, reuse, at_price)

    def _price(self, state: State) -> float:
        return affinity.price(state.queue_s, state.open_mask, self._rules.rules, exact=state.fresh)

    def _pool(self, state: State) -> Pool:
        return Pool(state.queue_s, self._curves, state.open_mask, state.fresh)

    def _prompt(self, request: Request, now: float) -> Prompt:
        left_s, size = request.due_s - now, request.block_tokens
        return Prompt(request.tokens, request.homes, left_s, request.known_tokens, size)


class ReuseMeter:
    """How much of unknown prompts the first home turned out to hold: echo of the other routers."""

    _MEMORY = 0.99
    _TYPICAL = 0.30
    """The share at which the defaults of `Reuse` hold."""

    def __init__(self) -> None:
        self._share = self._TYPICAL
        self.expected = Reuse()

    def note(self, request: Request, worker: int, choice: Choice, cached_tokens: int) -> None:
        """Learns from what was sent to its first home without being known there."""
        if worker not in request.homes[:1] or choice.why is not affinity.Why.HOME:
            return
        share = cached_tokens / max(request.tokens, 1)
        self._share = self._MEMORY * self._share + (1 - self._MEMORY) * share
        self.expected = Reuse().scaled(self._share / self._TYPICAL)
