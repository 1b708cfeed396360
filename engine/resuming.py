"""Answers that go on after tokens which another engine generated: what may, and how the tokens
reach the engine.

They are outputs there, as if this engine had generated them: penalties, `min_tokens`, `bad_words`
and `max_tokens` count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baton.errors import BatonError, Reason
from engine.ports import EngineFacts

RESUMED_KEY = "baton_resumed"
"""Where they lie in the sampling parameters' `extra_args`. What a client puts there is dropped."""


def resumed_in(sampling_params: Any) -> list[int]:
    """The tokens that a request goes on after, in a list of the caller's own."""
    extra = getattr(sampling_params, "extra_args", None) or {}
    return list(extra.get(RESUMED_KEY, ()))


def check_resumed(request: Any, resumed: Sequence[int], facts: EngineFacts) -> None:
    """Raises BatonError where an EngineCoreRequest cannot go on after these tokens."""
    if field := _unsupported(request):
        raise BatonError(Reason.UNSUPPORTED, f"an answer with {field} cannot be resumed")
    if fault := _fault(request, resumed, facts):
        raise BatonError(Reason.INVALID_REQUEST, f"resumed tokens: {fault}")


def _unsupported(request: Any) -> str:
    """The field whose state would not be what it was on the other engine."""
    params = request.sampling_params
    if request.prompt_token_ids is None:
        return "prompt_embeds"
    if params.structured_outputs is not None:
        return "structured_outputs"
    # A generator's place in its sequence is not known.
    return "seed" if params.seed is not None and params.temperature > 0 else ""


def _fault(request: Any, resumed: Sequence[int], facts: EngineFacts) -> str:
    params = request.sampling_params
    if facts.vocabulary and max(resumed) >= facts.vocabulary:
        return f"{max(resumed)} is no token of this model"
    if params.max_tokens is not None and len(resumed) >= params.max_tokens:
        return f"{len(resumed)} are all that max_tokens allows"
    if len(request.prompt_token_ids) + len(resumed) >= facts.max_model_len_tokens:
        return "prompt and answer are as long as the model allows"
    ends = (params.eos_token_id, *(params.stop_token_ids or ()))
    return "the last one ends the answer" if resumed[-1] in ends else ""
