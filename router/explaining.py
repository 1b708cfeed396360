"""From slots and choices to the record that people read."""

from __future__ import annotations

from dataclasses import dataclass

from baton.prefix_keys import ROUTING_BLOCK_TOKENS
from router.policy.affinity import Choice
from router.policy.decode_choice import DecodeChoice
from router.policy.division import Forecast, Promise
from router.policy.explanation import Explanation, PrefillPart, Weighed
from router.policy.prefill import Request
from router.policy.types import ChoiceReason
from router.pool import Pool

POLICY = "affinity"


@dataclass(frozen=True, slots=True)
class Divided:
    """How it was decided whether to disaggregate."""

    reason: ChoiceReason
    promise: Promise | None = None
    apart: Forecast | None = None
    whole: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """How a request came to be sent to a prefill worker."""

    choice: Choice
    fresh: bool
    waited_s: float
    moved: bool
    asked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that led to a plan. `place` and `sending` are None without a prefill worker."""

    prompt_tokens: int
    divided: Divided
    decode: DecodeChoice
    place: Request | None = None
    sending: Sending | None = None
    refused: tuple[str, ...] = ()


def explanation(pool: Pool, case: Case) -> Explanation:
    """The record of one plan."""
    key = None if case.place is None else case.place.routing
    return Explanation(
        POLICY,
        case.divided.reason.value,
        case.prompt_tokens,
        0 if key is None else key.blocks * ROUTING_BLOCK_TOKENS,
        0.0 if key is None else key.share,
        () if case.place is None else pool.names(case.place.homes),
        case.divided.promise,
        case.divided.apart,
        case.divided.whole,
        None if case.sending is None else _prefill(pool, case.sending),
        case.decode,
        case.refused,
    )


def _prefill(pool: Pool, sending: Sending) -> PrefillPart:
    choice = sending.choice
    weighed = (
        Weighed(worker, round(c.cached_tokens), c.queue_s, c.ttft_s, c.cost_s)
        for c in choice.candidates
        if (worker := pool.slots.worker(c.worker)) is not None
    )
    (chosen,) = pool.names([choice.worker])
    return PrefillPart(
        chosen,
        choice.why.value,
        choice.price,
        sending.fresh,
        sending.waited_s,
        sending.moved,
        pool.names(sending.asked),
        tuple(weighed),
    )
