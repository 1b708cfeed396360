"""Prompts of given lengths that share prefixes exactly where a trace says so.

A block key stands for a prompt up to the end of its block, so the same key always becomes the same
content. A salt of its own keeps each run from finding what the one before left in the caches.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from simulator.traces.request import BLOCK_TOKENS, Request

# Ordinary tokens in practically every vocabulary: special ones come before or behind.
_TOKENS = range(1000, 4000)
_TEXT = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word "
    "business issue side kind head house service friend father power hour game line end member "
    "law car city name team minute idea kid body back parent face others level office door health"
)
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts: lists of token ids, or words where `words_per_token` is given."""

    salt: str
    words_per_token: float | None = None
    overhead_tokens: int = 0
    """What the endpoint itself adds to each prompt, such as its chat template: part of a length."""

    @property
    def least_tokens(self) -> int:
        """No prompt can be shorter."""
        return self.overhead_tokens + 1

    def of(self, request: Request) -> list[int] | str:
        """The prompt of a request; always the same one."""
        if self.words_per_token is None:
            return self._drawn(request, _TOKENS, 1.0)
        places = self._drawn(request, range(len(_WORDS)), self.words_per_token)
        return " ".join(_WORDS[place] for place in places)

    def _drawn(self, request: Request, of: range, per_token: float) -> list[int]:
        drawn: list[int] = []
        left = max(request.input_tokens - self.overhead_tokens, 1)
        for key in request.blocks:
            if left <= 0:
                break
            rng = random.Random(f"{self.salt} {key}")
            tokens = min(left, BLOCK_TOKENS)
            drawn += rng.choices(of, k=max(1, round(tokens * per_token)))
            left -= tokens
        return drawn
