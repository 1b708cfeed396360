"""The bounds of one worker."""

from __future__ import annotations

from dataclasses import dataclass

from baton.errors import BatonError, Reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker takes at most, and how long it waits for its engine."""

    queued_requests_max: int
    retry_after_s: float
    silence_timeout_s: float
    """Legs but no step for this long: the engine is stuck."""

    def check(self, prompt_tokens: int, longest_tokens: int, waiting: int) -> None:
        """Raises BatonError where a leg goes beyond them: WORKER_FULL, PROMPT_TOO_LONG."""
        retry_s = self.retry_after_s
        if waiting >= self.queued_requests_max:
            raise BatonError(
                Reason.WORKER_FULL, "the worker's queue is full", retry_after_s=retry_s
            )
        if prompt_tokens > longest_tokens:
            raise BatonError(Reason.PROMPT_TOO_LONG, "the prompt is longer than the model allows")
