"""What every routing policy is given and what it answers, as frozen values.

The view is a hint with an age: a worker may still refuse, and its word is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from baton.errors import Reason
from baton.ids import RequestId, WorkerId
from baton.messages import Dispatch, Role, WorkerLoad
from router.policy.explanation import Explanation


class ChoiceReason(StrEnum):
    """Why a request is, or is not, split between prefill and decode."""

    DISAGGREGATED = "disaggregated"
    SETTING = "setting"
    """The settings say never."""
    SHORT_PROMPT = "short_prompt"
    NOT_DIVISIBLE = "not_divisible"
    """The answer needs the prompt's own logits, so one worker has to do both."""
    NO_PREFILL_WORKER = "no_prefill_worker"
    STANDING_IN = "standing_in"
    """No decode worker is left for a request that has been lost once: a prefill worker does it."""
    DISAGGREGATED_FOR_TPOT = "disaggregated_for_tpot"
    """The decode worker alone would answer sooner, but stall its batch."""
    WHOLE_SOONER = "whole_sooner"
    """The decode worker alone is predicted to answer sooner, and its batch keeps its promise."""
    WHOLE_KEEPS = "whole_keeps"
    """The decode worker alone keeps a promise that would be broken apart."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who serves a request. `prefill` is None when the decode worker computes the prompt too."""

    prefill: WorkerId | None
    decode: WorkerId
    dispatch: Dispatch
    reason: ChoiceReason
    explanation: Explanation | None = None

    def told(self) -> str:
        """It in a few words."""
        return self.reason.value if self.explanation is None else self.explanation.line()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nobody can serve a request now. `retry_after_s` in seconds, None = no advice."""

    reason: Reason
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One connected worker: its last report, and what it has been sent since.

    Pending counts are this router's own requests that the report cannot hold yet.
    """

    worker_id: WorkerId
    load: WorkerLoad
    pending_requests: int = 0
    pending_prompt_tokens: int = 0
    draining: bool = False

    @property
    def waiting(self) -> int:
        """Requests that wait there, or will in a moment."""
        return self.load.waiting + self.pending_requests

    @property
    def requests(self) -> int:
        """Requests that run or wait there, or will in a moment."""
        return self.load.running + self.waiting

    @property
    def queued_prompt_tokens(self) -> int:
        """Prompt tokens that stand before a new request."""
        return self.load.queued_prompt_tokens + self.pending_prompt_tokens


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """The settings that bind every policy; see `baton.settings` for their meaning."""

    disaggregate: Literal["auto", "always", "never"] = "auto"
    min_disaggregated_tokens: int = 0
    max_queued_prefill_requests: int = 512
    max_queued_decode_requests: int = 512
    retry_after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The connected workers of each role at one moment, and the roles that are starting more."""

    prefill: tuple[WorkerView, ...]
    decode: tuple[WorkerView, ...]
    dispatch: Dispatch
    starting: frozenset[Role] = frozenset()
    rules: PolicyRules = PolicyRules()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a policy may know of a request. The id only breaks ties."""

    request_id: RequestId
    prompt_tokens: int
    may_disaggregate: bool = True
