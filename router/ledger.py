"""The requests inside the router, when each must end, and how the latest ones ended.

Bounded by the requests in flight and a fixed number of stories. Decides nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import Any

from baton.clock import Deadline
from baton.errors import Reason
from baton.ids import RequestId
from router import flow
from router.attainment import Ending
from router.deadlines import Deadlines
from router.exchange import Source
from router.keeping import Keeping
from router.life import Event, FlowState, Planned, TokensCame
from router.metrics import FINISHED, RouterMetrics
from router.peer import Peer
from router.ports import NO_ROUTE, EngineRequest, Route
from router.split import PROMPT_PARTS, WORKER_PARTS, Split, split_tokens, stitch
from router.split_metrics import SplitMetrics
from router.tracing import DECODE, Traced

STORIES_MAX = 1024
_STORIES_SHOWN_MAX = 8


@dataclass(slots=True)
class Life:
    """A request inside the router. `taken_at` in seconds of the router's clock."""

    request: EngineRequest
    state: FlowState
    taken_at: float
    deadline: Deadline
    tokens: Callable[[], int]
    """How many of its answer have come, those that the client brought left out."""
    route: Route = NO_ROUTE
    sent: tuple[int, ...] = ()
    """Tokens that the client had when the current attempt began."""
    streamed_at: float | None = None
    """When the first token came."""
    broken_at: float | None = None
    """When the last attempt ended; None once tokens come again."""
    written_at: float | None = None
    """When the first token was written, where it is known."""
    source: Peer | None = None
    """The worker that its tokens come from."""
    stepped_from_s: float = 0.0
    stepped_s: float = 0.0
    """What the steps of the workers before that one took."""

    @property
    def arrived_at(self) -> float:
        """When its first bytes were read, as far as the front end can tell."""
        exchange = self.request.exchange
        return self.taken_at if exchange is None else exchange.arrived_at

    def breaks(self, now: float) -> None:
        """Its attempt has ended: whatever that worker does from now on is not for it."""
        self.follow(None)
        self.broken_at = now if self.broken_at is None else self.broken_at

    def follow(self, peer: Peer | None) -> None:
        """Its tokens come from this worker now; None = no more come."""
        if self.source is not None:
            self.stepped_s += max(self.source.stepped_s - self.stepped_from_s, 0.0)
        self.source, self.stepped_from_s = peer, 0.0 if peer is None else peer.stepped_s


class Ledger:
    """Who is inside. A request enters by `enter` and leaves by `leave`, once each."""

    def __init__(self, metrics: RouterMetrics, keeping: Keeping) -> None:
        self._metrics = metrics
        self._keeping = keeping
        self._lives: dict[RequestId, Life] = {}
        self._deadlines = Deadlines()
        self._stories: OrderedDict[RequestId, FlowState] = OrderedDict()
        self._tenants: dict[RequestId, str] = {}
        """Of those whose story is kept."""
        self._split: OrderedDict[RequestId, Split] = OrderedDict()
        self.splits = SplitMetrics()
        self._idle = asyncio.Event()
        self._idle.set()
        self.ended: Counter[str] = Counter()
        """Requests that left, by reason."""

    def __len__(self) -> int:
        return len(self._lives)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._lives

    def __iter__(self) -> Iterator[Life]:
        """Those inside now; they may leave meanwhile."""
        return iter(list(self._lives.values()))

    def get(self, request_id: RequestId) -> Life | None:
        """A request that is inside."""
        return self._lives.get(request_id)

    def enter(
        self, request: EngineRequest, now: float, limit_s: float, tokens: Callable[[], int]
    ) -> Life:
        """Takes a request in, for `limit_s` seconds at most. `tokens`: how many have come."""
        state, sent = FlowState(request.request_id, request.resumable), request.sent
        fresh = tokens if not sent else lambda: max(tokens() - len(sent), 0)
        one = Life(request, state, now, Deadline.after(now, limit_s), fresh, sent=sent)
        self._lives[request.request_id] = one
        self._deadlines.add(request.request_id, one.deadline.expires_at)
        self._changed()
        return one

    def streams(self, one: Life, peer: Peer, now: float) -> None:
        """Tokens of its current attempt come, from this worker."""
        one.follow(peer)
        if one.streamed_at is None:
            one.streamed_at = now
            if (exchange := one.request.exchange) is not None:
                exchange.when_written(lambda at: self._first_written(one, at))
                if one.route.grant:
                    exchange.source = Source(peer.info.direct_address, one.route.grant)
            self._keeping.first_token(one.request, now - one.taken_at, now)
        if one.broken_at is not None:
            self._metrics.resumed(now - one.broken_at)
            one.broken_at = None

    def leave(self, one: Life, reason: Reason | None, now: float) -> bool:
        """Lets a request out; `reason` is None when it finished. False if it had left before."""
        request_id = one.request.request_id
        if self._lives.get(request_id) is not one:
            return False
        del self._lives[request_id]
        self._deadlines.discard(request_id)
        self._keep_story(one)
        self.ended[FINISHED if reason is None else reason.value] += 1
        self._metrics.ended(reason, now - one.taken_at)
        ttft_s = None if one.streamed_at is None else one.streamed_at - one.taken_at
        end = Ending(reason, now - one.taken_at, ttft_s, one.tokens())
        self._keeping.ended(one.request, one.state, end, now)
        if reason is None and one.streamed_at is not None:
            self._answered(one, one.streamed_at, now)
        if (trace := one.request.trace) is not None:
            split = self._split.get(request_id) or _split(one, one.written_at)
            trace.ended(_traced(one, split, reason, now))
        self._changed()
        return True

    def _answered(self, one: Life, streamed_at: float, now: float) -> None:
        """Its last frame has come."""
        one.follow(None)
        tokens, received_s = one.tokens(), now - streamed_at

        def written(at: float | None) -> None:
            first_at = one.written_at
            written_s = received_s if at is None or first_at is None else at - first_at
            self.splits.answered(split_tokens(tokens, one.stepped_s, received_s, written_s))

        exchange = one.request.exchange
        if exchange is None:
            self._first_written(one, None)
            written(None)
        else:
            exchange.when_written(written)

    def _first_written(self, one: Life, at: float | None) -> None:
        """Its first token has gone to the client; `at` is None where nothing is streamed."""
        exchange, one.written_at = one.request.exchange, at
        split = _split(one, at)
        if split is None:
            return
        self.splits.first_token(split)
        self._split[one.request.request_id] = split
        while len(self._split) > STORIES_MAX:
            self._split.popitem(last=False)
        if exchange is not None:
            exchange.split = exchange.split or split

    def due(self, now: float) -> list[RequestId]:
        """Takes out the deadlines that have passed. Each is told once."""
        return self._deadlines.due(now)

    async def idle(self) -> None:
        """Returns once nobody is inside."""
        await self._idle.wait()

    def story(self, text: str, tenant: str | None = None, whole: bool = False) -> str | None:
        """The lives of the requests whose id is `text` or else contains it; None if there are none.

        Front ends add to the ids that clients see, so a part of an id has to do. With a `tenant`,
        those of this one only; if `whole`, those that a client has named exactly so.
        """
        return "\n".join(map(self._told, self._named(text, tenant, whole))) or None

    def split(self, request_id: RequestId) -> Split | None:
        """Where the time to its first token went, once that is written; the latest are known."""
        return self._split.get(request_id)

    def explain(self, text: str, tenant: str | None = None) -> list[dict[str, Any]]:
        """Each plan made for those requests, with what is known of why, in what JSON can hold."""
        return [row for state in self._named(text, tenant) for row in _explained(state)]

    def recent(self) -> list[dict[str, Any]]:
        """See `Keeping.recent`."""
        return self._keeping.recent()

    def latest(self, most: int) -> list[FlowState]:
        """So many requests at most: those inside that came last, and those that ended last."""
        lives = [one.state for one in list(self._lives.values())[-most:]]
        ended = islice(reversed(self._stories.values()), most - len(lives))
        return [*lives, *ended]

    def find(self, text: str) -> FlowState | None:
        """The youngest request that `story` would tell of."""
        found = self._named(text)
        return found[-1] if found else None

    def _named(self, text: str, tenant: str | None = None, whole: bool = False) -> list[FlowState]:
        lives = {request_id: one.state for request_id, one in self._lives.items()}
        states = {**self._stories, **lives}
        if tenant is not None:
            states = {key: one for key, one in states.items() if self._tenant(key) == tenant}
        if exact := states.get(RequestId(text)):
            return [exact]
        # As front ends name the choices of a request, and keep requests of one name apart.
        words = rf"(\d+_)?{re.escape(text)}-[0-9a-f]{{8}}" if whole else re.escape(text)
        fits = re.compile(words).fullmatch if whole else re.compile(words).search
        found = [state for request_id, state in states.items() if text and fits(request_id)]
        return found[-_STORIES_SHOWN_MAX:]

    def _told(self, state: FlowState) -> str:
        split = self._split.get(state.request_id)
        return flow.story(state) + ("" if split is None else f"\n  {split.told()}")

    def _tenant(self, request_id: RequestId) -> str | None:
        one = self._lives.get(request_id)
        return self._tenants.get(request_id) if one is None else one.request.caller.tenant

    def _keep_story(self, one: Life) -> None:
        request_id = one.request.request_id
        self._stories.pop(request_id, None)
        self._stories[request_id] = one.state
        self._tenants[request_id] = one.request.caller.tenant
        while len(self._stories) > STORIES_MAX:
            del self._tenants[self._stories.popitem(last=False)[0]]

    def _changed(self) -> None:
        self._metrics.inflight.set(len(self._lives))
        if self._lives:
            self._idle.clear()
        else:
            self._idle.set()


def _split(one: Life, written_at: float | None) -> Split | None:
    return stitch(one.arrived_at, one.state.log, written_at)


def _traced(one: Life, split: Split | None, reason: Reason | None, now: float) -> Traced:
    request = one.request
    return Traced(
        request_id=request.request_id,
        tenant=request.caller.tenant,
        prompt_tokens=request.prompt_tokens,
        answer_tokens=one.tokens(),
        lasted_s=now - one.arrived_at,
        parts=() if split is None else [(s.part.value, s.seconds) for s in split.spans],
        workers=_workers(one.state),
        error="" if reason is None else reason.value,
    )


def _workers(state: FlowState) -> dict[str, str]:
    """Who worked on a part. Parts may be of several attempts: then nobody is named."""
    found: dict[str, str] = {} if state.plan is None else {DECODE: state.plan.decode}
    events = takewhile(lambda event: not isinstance(event, TokensCame), _events(state))
    plans = [event.plan for event in events if isinstance(event, Planned)]
    if len(plans) == 1:
        prompt, decode = plans[0].prefill or plans[0].decode, plans[0].decode
        found |= {part.value: prompt if part in PROMPT_PARTS else decode for part in WORKER_PARTS}
    return found


def _events(state: FlowState) -> Iterator[Event]:
    return (entry.event for entry in state.log)


def _explained(state: FlowState) -> list[dict[str, Any]]:
    plans = [entry.event.plan for entry in state.log if isinstance(entry.event, Planned)]
    return [
        {
            "request_id": state.request_id,
            "phase": state.phase.value,
            "prefill": plan.prefill,
            "decode": plan.decode,
            "reason": plan.reason.value,
            "line": plan.told(),
            "why": None if plan.explanation is None else asdict(plan.explanation),
        }
        for plan in plans
    ]
