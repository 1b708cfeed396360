"""Whether a request is divided between two workers, and what it is if it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from baton import prefix_keys
from baton.errors import BatonError, Reason
from baton.messages import Role
from router.explaining import Case, Divided, explanation
from router.forecasts import Forecasts, Need
from router.peer import Peer
from router.plain_planner import error_of
from router.planning import Chosen
from router.policy import least_loaded
from router.policy.admission import Expected
from router.policy.affinity import Choice
from router.policy.decode_choice import DecodeCandidate, DecodeChoice, DecodeWhy
from router.policy.division import Division, Promise, divide
from router.policy.types import ChoiceReason, Plan, PolicyRules, Refusal
from router.pool import Pool
from router.ports import EngineRequest, Route
from router.promises import Promises
from router.registry import Registry

_NEVER_APART = (ChoiceReason.SETTING, ChoiceReason.SHORT_PROMPT, ChoiceReason.NOT_DIVISIBLE)
APART = (ChoiceReason.DISAGGREGATED, ChoiceReason.DISAGGREGATED_FOR_TPOT)
_REASONS = {
    Division.APART: ChoiceReason.DISAGGREGATED,
    Division.APART_KEEPS_TPOT: ChoiceReason.DISAGGREGATED_FOR_TPOT,
    Division.WHOLE_SOONER: ChoiceReason.WHOLE_SOONER,
    Division.WHOLE_KEEPS: ChoiceReason.WHOLE_KEEPS,
    Division.WHOLE_ONLY: ChoiceReason.NO_PREFILL_WORKER,
}


class Divider:
    """Reads what the router knows, changes nothing."""

    def __init__(
        self, registry: Registry, pool: Pool, rules: PolicyRules, promises: Promises
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._rules = rules
        self._promises = promises
        self._forecasts = Forecasts(pool.slots, pool.caches, pool.outlook)

    def need(self, request: EngineRequest, peer: Peer) -> Need:
        """A request as it matters to workers like this one."""
        size = max(peer.info.block_size_tokens, 1)
        start = prefix_keys.salt(peer.info.served_model, cache_salt=request.cache_salt)
        blocks = prefix_keys.of_tokens(request.tokens, size, start)
        slo = self._promises.to(request.caller.tenant).slo
        return Need(request.prompt_tokens, request.output_tokens, blocks, size, slo)

    def decode(self, need: Need, prefill_peer: Peer | None) -> DecodeChoice | None:
        """Where the answer of a divided request would come from."""
        return self._forecasts.decode(need, self._pool.decoders(), prefill_peer)

    def divide(
        self, need: Need, choice: Choice, decode: DecodeChoice | None, now: float
    ) -> Divided:
        """Whether it pays, given where both parts would go."""
        peer = None if decode is None else self._registry.get(decode.worker_id)
        if peer is None or self._rules.disaggregate != "auto":
            return Divided(ChoiceReason.DISAGGREGATED)
        promise = Promise(need.slo.ttft_of(need.prompt_tokens), need.slo.tpot_s)
        apart = self._forecasts.apart(need, choice.chosen.ttft_s, peer)
        whole = self._forecasts.whole(need, peer, now)
        return Divided(_REASONS[divide(apart, whole, promise)], promise, apart, whole)

    def apart(
        self, need: Need, choice: Choice, decode: DecodeChoice | None, workers: int
    ) -> Expected:
        """What is expected of a divided request; so many workers could compute its prompt."""
        wait_s, work_s = choice.chosen.queue_s, choice.chosen.ttft_s - choice.chosen.queue_s
        peer = None if decode is None else self._registry.get(decode.worker_id)
        after_s = 0.0 if peer is None else self._forecasts.apart(need, 0.0, peer).ttft_s
        expected = self._expected(need, wait_s, work_s, workers, decode)
        cached = choice.chosen.cached_tokens
        new = need.prompt_tokens - cached
        return replace(expected, after_s=after_s, new_tokens=new, cached_tokens=cached)

    def whole(
        self,
        request: EngineRequest,
        need: Need,
        divided: Divided,
        now: float,
        peers: Sequence[Peer],
    ) -> tuple[Chosen, Expected]:
        """One of these workers does all of it."""
        decode = self._forecasts.decode(need, peers, None)
        assert decode is not None, "no worker is open"
        peer = self._registry.get(decode.worker_id)
        assert peer is not None
        why = explanation(self._pool, Case(need.prompt_tokens, divided, decode))
        plan = Plan(None, decode.worker_id, peer.info.dispatch, divided.reason, why)
        wait_s = peer.queue_s(now)
        work_s = max(self._forecasts.whole(need, peer, now).ttft_s - wait_s, 0.0)
        chosen = Chosen(request.request_id, plan, Route(need.blocks, work_s))
        expected = self._expected(need, wait_s, work_s, len(peers), decode)
        if divided.reason in _NEVER_APART:
            return chosen, expected
        # A prefill pool that is missing, or too busy, would have had this work.
        cached = _candidate(decode).cached_tokens
        new = need.prompt_tokens - cached
        return chosen, replace(expected, new_tokens=new, cached_tokens=cached)

    def nobody(self, role: Role) -> BatonError:
        """Why there is no worker for this part."""
        found = least_loaded.nobody(self._registry.policy_view(self._rules), role)
        # Where somebody takes requests, it is the one that is to be avoided.
        other = Refusal(Reason.NO_WORKER, f"There is no other {role.value} worker.")
        return error_of(found or other)

    def _expected(
        self,
        need: Need,
        wait_s: float,
        work_s: float,
        workers: int,
        decode: DecodeChoice | None,
    ) -> Expected:
        promise_s = need.slo.ttft_of(need.prompt_tokens)
        if decode is None:
            return Expected(wait_s, work_s, workers, promise_s)
        tpot_s = _candidate(decode).tpot_s
        peer = self._registry.get(decode.worker_id)
        # Alone it may have all there is: nobody would be preempted, and waiting would not help.
        shared = peer is not None and peer.standing.batch > 0
        crowded = shared and decode.why is DecodeWhy.NO_ROOM
        tpot_s = tpot_s if shared else 0.0
        return Expected(wait_s, work_s, workers, promise_s, tpot_s, need.slo.tpot_s, crowded)


def _candidate(decode: DecodeChoice) -> DecodeCandidate:
    """The one that was chosen."""
    return next(c for c in decode.candidates if c.worker_id == decode.worker_id)
