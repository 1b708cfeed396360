"""Baton's own policy in the router: `policy.prefill` and its fellows fed with what workers say.

A request is divided or not, and if it is, the desk sends it to a prefill worker, keeps it until one
has room, or has candidates asked. The decode worker is chosen at the moment of sending.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from baton import prefix_keys
from baton.costs import DecodeCurve, PrefillCurve
from baton.errors import BatonError, Reason
from baton.ids import RequestId, WorkerId
from baton.messages import Role
from baton.settings import Settings
from baton.wire import worker_pb2 as pb
from router import wire
from router.asking import HOLD_S, Question, Questions
from router.dividing import APART, Divider
from router.explaining import Case, Divided, Sending, explanation
from router.forecasts import Need
from router.gate import Gate
from router.life import PlaceAgain
from router.metrics import RouterMetrics
from router.openings import Opening, Openings
from router.peer import Peer
from router.plain_planner import facts_of
from router.planning import SAME_WORKER, Chosen, Kept, Refused, Tell, Word
from router.policy import least_loaded, prefill, rings
from router.policy.admission import Ahead
from router.policy.affinity import Choice, Rules
from router.policy.decode_choice import DecodeChoice
from router.policy.tenants import Priority
from router.policy.types import ChoiceReason, Plan, PolicyRules
from router.pool import Pool
from router.ports import EngineRequest, Route
from router.promises import Promises
from router.registry import Registry

_ASK_FROM_SHARE = 0.5
"""Of the promise: a prediction beyond it is checked with the workers before it is relied on."""
_PATIENCE = {Priority.HIGH: 0.5, Priority.NORMAL: 1.0, Priority.LOW: 4.0}
"""Of the promise, until a request counts as late where requests wait for a worker."""


class AffinityPlanner:
    """Implements `router.planning.Planner`."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        rules: PolicyRules,
        metrics: RouterMetrics,
        gate: Gate,
    ) -> None:
        self._registry = registry
        self._rules = rules
        self._ask = settings.router.ask
        self._metrics = metrics
        self._gate = gate
        self._pool = pool = Pool(registry, rules, settings.router.view_max_age_s)
        self._divider = Divider(registry, pool, rules, Promises(settings))
        self._desk = prefill.PrefillDesk(
            rings.at_slots(()), pool.outlook.curves, pool.match, _desk_rules(settings)
        )
        self._questions = Questions()
        self._openings = Openings()

    # --- requests ---------------------------------------------------------------------------------

    def plan(self, request: EngineRequest, now: float) -> Sequence[Word]:
        return self._plan(request, now)

    def again(self, request: EngineRequest, command: PlaceAgain, now: float) -> Sequence[Word]:
        one = self._openings.of(request.request_id)
        too_long = command.reason is Reason.WORKER_FULL and self._sent_to(one, command.worker_id)
        if too_long and one is not None and one.request.prompt_tokens == request.prompt_tokens:
            # Only its queue was longer than thought: it is a candidate like the others.
            one.attempt, one.sent, one.refused = command.attempt, None, (*one.refused, command.why)
            return self._place(one, self._pool.state(now), now, ask=self._ask != "never")
        self.left(request.request_id)
        try:
            with self._pool.without(command.worker_id):
                return self._plan(request, now, command)
        except BatonError as error:
            if error.reason is not Reason.NO_WORKER or command.reason not in SAME_WORKER:
                raise
        return self._plan(request, now, command)

    def _sent_to(self, one: Opening | None, worker_id: WorkerId) -> bool:
        """Whether this is who was to compute the prompt; else it was to decode."""
        sent = None if one is None else one.sent
        there = None if sent is None else self._pool.peer(sent.worker)
        return there is not None and there.info.worker_id == worker_id

    def prefilled(self, request_id: RequestId, cached_tokens: int, now: float) -> None:
        self._gate.computed(request_id)
        one = self._openings.take(request_id)
        if one is not None and one.sent is not None:
            self._desk.computed(one.sent, cached_tokens)
            self._metrics.predicted(one.sent.choice.chosen.ttft_s, now - one.sent_at)

    def left(self, request_id: RequestId) -> None:
        one = self._openings.take(request_id)
        if one is not None:
            self._desk.left(one.place.number)
            self._questions.drop(one.leg_id)

    # --- workers ----------------------------------------------------------------------------------

    def follow(self, peers: Iterable[Peer], gone: Iterable[Peer]) -> None:
        found = self._pool.follow(peers, gone)
        if found is not None:
            self._desk.members(found)

    def lost(self, peer: Peer, now: float) -> Sequence[Word]:
        slot = self._pool.lost(peer)
        complete = () if slot is None else self._questions.unreachable(slot)
        return [word for question in complete for word in self._decide(question, now)]

    def heard(self, peer: Peer, frame: pb.StepFrame, now: float) -> Sequence[Word]:
        words: list[Word] = []
        if self._pool.heard(peer, frame, now):
            words.append(Tell(peer.info.worker_id, wire.resync_message()))
        for answer in frame.answers:
            words += self._answered(peer, answer, now)
        if self._desk and peer.info.role is Role.PREFILL:
            words += self._released(now)
        return words

    def tick(self, now: float) -> Sequence[Word]:
        words: list[Word] = []
        for question in self._questions.late(now):
            self._metrics.probed("late", len(question.left))
            words += self._decide(question, now)
        if self._desk:
            words += self._released(now) if self._pool.has_prefill() else self._orphaned(now)
        self._metrics.queued.set(len(self._desk))
        return words

    def ahead(self, now: float) -> Ahead:
        state = self._pool.state(now)
        if state.open_mask and self._rules.disaggregate != "never":
            queues = (q for slot, q in enumerate(state.queue_s) if state.open_mask >> slot & 1)
            return Ahead(min(queues), state.open_mask.bit_count())
        decoders = self._pool.decoders()
        return Ahead(min((peer.queue_s(now) for peer in decoders), default=0.0), len(decoders))

    def costs(self, peer: Peer) -> tuple[PrefillCurve | None, DecodeCurve | None]:
        return self._pool.outlook.measured(self._pool.slots.take(peer.info.worker_id))

    def figures(self, now: float) -> dict[str, Any]:
        return {
            "kept_requests": len(self._desk),
            "questions": len(self._questions),
            "workers": self._pool.rows(now),
            "problems": {**self._pool.caches.problems, "costs": self._pool.outlook.ignored},
        }

    # --- a new request, or one that starts anew ---------------------------------------------------

    def _plan(
        self, request: EngineRequest, now: float, after: PlaceAgain | None = None
    ) -> Sequence[Word]:
        decoders = self._pool.decoders()
        # Who was promised an answer gets it from a prefill worker rather than not at all.
        standing_in = after is not None and after.reason in SAME_WORKER and not decoders
        decoders = self._pool.prefillers() if standing_in else decoders
        if not decoders:
            raise self._divider.nobody(Role.DECODE)
        need = self._divider.need(request, decoders[0])
        if standing_in:
            divided = Divided(ChoiceReason.STANDING_IN)
            return self._whole(request, need, divided, now, decoders)
        has_prefill = self._pool.has_prefill()
        reason = least_loaded.division(self._rules, facts_of(request), has_prefill=has_prefill)
        if reason is not ChoiceReason.DISAGGREGATED:
            return self._whole(request, need, Divided(reason), now, decoders)
        return self._divided(request, need, now, after)

    def _divided(
        self, request: EngineRequest, need: Need, now: float, after: PlaceAgain | None
    ) -> Sequence[Word]:
        state = self._pool.state(now)
        place = self._desk.at_home(self._placeable(request, need, now))
        choice = self._desk.preview(place, state, now)
        if choice is None:
            raise self._divider.nobody(Role.PREFILL)
        there = self._pool.peer(choice.worker)
        decode = self._divider.decode(need, there)
        divided = self._divider.divide(need, choice, decode, now)
        if divided.reason not in APART:
            return self._whole(request, need, divided, now, self._pool.decoders())
        workers = state.open_mask.bit_count()
        expected = self._divider.apart(need, choice, decode, workers)
        self._gate.weigh(request, expected, now)
        one = Opening(request, need, place, divided, now, choice.worker, decode=decode)
        if after is not None:
            one.attempt, one.refused = after.attempt, (after.why,)
        self._openings.add(one)
        ask = self._should_ask(choice, state, place.due_s - now)
        words = self._place(one, state, now, ask=ask)
        one.decode = None
        return words

    def _whole(
        self,
        request: EngineRequest,
        need: Need,
        divided: Divided,
        now: float,
        peers: Sequence[Peer],
    ) -> list[Word]:
        chosen, expected = self._divider.whole(request, need, divided, now, peers)
        self._gate.weigh(request, expected, now)
        self._gate.sent(request.request_id)
        return [chosen]

    def _placeable(self, request: EngineRequest, need: Need, now: float) -> prefill.Request:
        per_key = max(prefix_keys.ROUTING_BLOCK_TOKENS // need.block_tokens, 1)
        # A key covers everything before it, so every so many blocks' key is a routing block's.
        keys = need.blocks[per_key - 1 :: per_key]
        promise_s = need.slo.ttft_of(request.prompt_tokens)
        due_s = now + promise_s * _PATIENCE[self._gate.priority(request)]
        tokens = max(request.prompt_tokens, 1)
        number = self._openings.next_number()
        return prefill.Request(number, due_s, tokens, keys, need.blocks, need.block_tokens)

    def _should_ask(self, choice: Choice, state: prefill.State, left_s: float) -> bool:
        if self._ask != "auto":
            return self._ask == "always"
        if state.open_mask.bit_count() == 1:
            return False
        return not state.fresh or choice.chosen.ttft_s > _ASK_FROM_SHARE * left_s

    def _orphaned(self, now: float) -> list[Word]:
        """Nobody computes prompts any more: decode workers serve whole what waits here."""
        if self._rules.disaggregate == "always" or not self._pool.decoders():
            return []
        words: list[Word] = []
        for one in self._openings.kept():
            self.left(one.request.request_id)
            words += self._plan(one.request, now)
        return words

    # --- the desk's words, carried out ------------------------------------------------------------

    def _place(self, one: Opening, state: prefill.State, now: float, *, ask: bool) -> list[Word]:
        words = self._said(self._desk.placed(one.place, state, now, ask=ask), now)
        asks = any(isinstance(w, Kept) and w.request_id == one.request.request_id for w in words)
        return words if one.sent or asks else [*words, one.kept(state.open_mask.bit_count())]

    def _released(self, now: float) -> list[Word]:
        return self._said(self._desk.released(self._pool.state(now), now), now)

    def _said(self, words: Iterable[prefill.Send | prefill.Ask], now: float) -> list[Word]:
        said: list[Word] = []
        for word in words:
            one = self._openings.numbered(word.request.number)
            if one is None:
                continue
            if isinstance(word, prefill.Send):
                said += self._send(one, word, now)
            else:
                said += self._asks(one, word, now)
        return said

    def _send(self, one: Opening, word: prefill.Send, now: float) -> list[Word]:
        there = self._pool.peer(word.worker)
        assert there is not None, "only linked workers are open"
        known = one.decode if word.worker == one.first else None
        decode = known or self._divider.decode(one.need, there)
        one.sent, one.sent_at = word, now
        self._gate.sent(one.request.request_id)
        unasked = self._unask(one, but=word.worker)
        if decode is None:
            error = self._divider.nobody(Role.DECODE)
            return [*unasked, Refused(one.request.request_id, error)]
        self._pool.caches.sent(word.worker, one.need.blocks)
        moved = word.worker != one.first
        self._metrics.chose_prefill(word.choice.why, decode.why, moved=moved)
        return [*unasked, self._chosen(one, word, there, decode, moved=moved)]

    def _chosen(
        self,
        one: Opening,
        word: prefill.Send,
        there: Peer,
        decode: DecodeChoice,
        *,
        moved: bool,
    ) -> Chosen:
        waited_s = one.sent_at - one.came_at
        sending = Sending(word.choice, self._pool.fresh, waited_s, moved, one.asked)
        tokens = one.need.prompt_tokens
        case = Case(tokens, one.divided, decode, one.place, sending, one.refused)
        why = explanation(self._pool, case)
        info, reason = there.info, one.divided.reason
        plan = Plan(info.worker_id, decode.worker_id, info.dispatch, reason, why)
        chosen = word.choice.chosen
        queue_max_s = word.queue_max_s if math.isfinite(word.queue_max_s) else 0.0
        route = Route(one.need.blocks, chosen.ttft_s - chosen.queue_s, queue_max_s)
        return Chosen(one.request.request_id, plan, route)

    # --- questions --------------------------------------------------------------------------------

    def _asks(self, one: Opening, word: prefill.Ask, now: float) -> list[Word]:
        one.asked = word.workers
        self._questions.ask(one.place, one.leg_id, word.workers, now)
        need = one.need
        message = wire.probe_message(one.leg_id, need.prompt_tokens, need.blocks, HOLD_S)
        names = self._pool.names(word.workers)
        asks = Kept(one.request.request_id, f"asks {', '.join(names)}")
        return [asks, *(Tell(name, message) for name in names)]

    def _answered(self, peer: Peer, answer: pb.Answer, now: float) -> list[Word]:
        slot = self._pool.slots.take(peer.info.worker_id)
        said = wire.answer_of(answer, slot)
        self._metrics.probed("refused" if said is None else "answered")
        question = self._questions.answered(answer.leg_id, slot, said)
        return [] if question is None else self._decide(question, now)

    def _decide(self, question: Question, now: float) -> list[Word]:
        one, state = self._openings.numbered(question.request.number), self._pool.state(now)
        if one is None:
            return []
        answers = list(question.answers.values())
        if not answers:
            return self._place(one, state, now, ask=False)
        said = self._said(self._desk.answered(one.place, answers, state, now), now)
        return said if one.sent else [*said, one.kept(state.open_mask.bit_count())]

    def _unask(self, one: Opening, but: int) -> list[Word]:
        """Frees the places held where the request does not go."""
        message = wire.abort_message([one.leg_id])
        others = [self._pool.peer(slot) for slot in one.asked if slot != but]
        return [Tell(peer.info.worker_id, message) for peer in others if peer is not None]


def _desk_rules(settings: Settings) -> prefill.DeskRules:
    return prefill.DeskRules(
        Rules(slo_s=settings.slo.ttft_s),
        ahead_s=settings.router.queue_ahead_s,
        may_ask=settings.router.ask != "never",
    )
