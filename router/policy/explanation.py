"""Why a request went where it went: the record that stories, headers and `baton explain` show.

Times in seconds, lengths in tokens. Everything is as it was known at the moment of the decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from baton.ids import WorkerId
from router.policy.decode_choice import DecodeChoice
from router.policy.division import Forecast, Promise


@dataclass(frozen=True, slots=True)
class Weighed:
    """One prefill worker as it was weighed."""

    worker_id: WorkerId
    cached_tokens: int
    queue_s: float
    ttft_s: float
    cost_s: float


@dataclass(frozen=True, slots=True)
class PrefillPart:
    """How the prefill worker was chosen."""

    worker_id: WorkerId
    why: str
    price: float
    """What a second of repeated work was taken to cost, in seconds."""
    fresh: bool
    """Whether the caches were known, or only guessed at."""
    waited_s: float
    """In this router's queue, questions included."""
    moved: bool
    """Whether it went elsewhere than it would have when it came."""
    asked: tuple[WorkerId, ...] = ()
    candidates: tuple[Weighed, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision. `prefill` is None where the decode worker computes the prompt too."""

    policy: str
    division: str
    prompt_tokens: int
    key_tokens: int = 0
    """Length of the prefix that decided where the request is at home."""
    key_share: float = 0.0
    """Share of that prefix in recent traffic."""
    homes: tuple[WorkerId, ...] = ()
    promise: Promise | None = None
    apart: Forecast | None = None
    whole: Forecast | None = None
    prefill: PrefillPart | None = None
    decode: DecodeChoice | None = None
    refused: tuple[str, ...] = field(default=())
    """Why earlier attempts were sent back."""

    def line(self) -> str:
        """It in a few words, as a header carries it."""
        parts = [f"division={self.division}", f"prompt_tokens={self.prompt_tokens}"]
        if self.prefill is not None:
            parts += _prefill_words(self.prefill)
        if self.decode is not None:
            parts += [f"decode={self.decode.worker_id}", f"decode_reason={self.decode.why}"]
        return "; ".join(parts)


def _prefill_words(part: PrefillPart) -> list[str]:
    found = [f"prefill={part.worker_id}", f"prefill_reason={part.why}"]
    chosen = next((c for c in part.candidates if c.worker_id == part.worker_id), None)
    if chosen is not None:
        found += [
            f"cached_tokens={chosen.cached_tokens}",
            f"queue_ms={chosen.queue_s * 1000:.0f}",
            f"predicted_ttft_ms={chosen.ttft_s * 1000:.0f}",
        ]
    return [*found, f"waited_ms={part.waited_s * 1000:.0f}"]
