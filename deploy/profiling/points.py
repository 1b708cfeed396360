"""What is measured: lengths, cached prefixes, batches, each as far as the engine has room. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TOKENS, QUICK_LONGEST_TOKENS = 32_768, 4096
SHORTEST_TOKENS = 64
_KV_SHARE = 0.9
"""Of the cache; the rest is for blocks that are only partly filled."""
_DECODE_STEP_WORK = 100
"""A decode step takes about as long as so many tokens of a prompt, and one more per request."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the engine can hold."""

    longest_tokens: int
    """Most tokens of one request, its answer included."""
    kv_tokens: int
    batch: int
    block_tokens: int
    quick_tokens: int = 100_000
    """Most tokens of a batch that a quick run computes before its steps."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """`prompts` prompts at once, `new` tokens each after `cached` ones."""

    new: int
    cached: int = 0
    prompts: int = 1
    repeats: int = 4

    def __str__(self) -> str:
        after = f" after {self.cached} cached" if self.cached else ""
        many = f"{self.prompts} x " if self.prompts > 1 else ""
        return f"prefill {many}{self.new} tokens{after}"

    @property
    def work(self) -> float:
        """How long it takes, in tokens of a prompt, roughly."""
        return self.repeats * self.prompts * (self.new + self.cached)


@dataclass(frozen=True, slots=True)
class Decode:
    """`steps` steps of `batch` requests with `context` tokens each."""

    batch: int
    context: int
    steps: int = 64

    def __str__(self) -> str:
        return f"decode {self.batch} x {self.context} tokens"

    @property
    def work(self) -> float:
        """As that of a prefill."""
        return self.batch * self.context + self.steps * (_DECODE_STEP_WORK + self.batch)


Point = Prefill | Decode


def grid(room: Room, *, quick: bool) -> list[Point]:
    """All points, quick ones first in each kind, so that estimates of the rest get better."""
    repeats = 3 if quick else 4
    lengths = _lengths(room.longest_tokens - 1, every=4 if quick else 2)
    return [
        *(Prefill(new, repeats=repeats) for new in lengths),
        *_cached(room, repeats, quick=quick),
        *_batched(room, repeats, quick=quick),
        *_decodes(room, quick=quick),
    ]


def _lengths(longest: int, every: int) -> list[int]:
    """Powers from the shortest to the longest, which is one of them."""
    lengths, length = [], SHORTEST_TOKENS
    while length < longest:
        lengths.append(length)
        length *= every
    # A length close below the longest says nothing of its own.
    lengths = [length for length in lengths if length * 1.3 < longest]
    if len(lengths) < 3:
        shorter = (max(longest >> by, 1) for by in (3, 2, 1))
        lengths = sorted({n for n in (*lengths, *shorter) if n < longest})[:3]
    return [*lengths, longest]


def _cached(room: Room, repeats: int, *, quick: bool) -> Iterable[Prefill]:
    """Prefixes are whole blocks: of others a part would be computed anew."""
    shares = (0.5,) if quick else (0.125, 0.5, 0.85)
    for share in shares:
        cached = int(room.longest_tokens * share) // room.block_tokens * room.block_tokens
        for new in (256, 1024 if quick else 2048):
            if cached and cached + new < room.longest_tokens:
                yield Prefill(new, cached, repeats=repeats)


def _batched(room: Room, repeats: int, *, quick: bool) -> Iterable[Prefill]:
    for prompts, new in ((4, 512),) if quick else ((4, 512), (16, 512), (8, 2048)):
        short = new + 1 <= room.longest_tokens
        if short and prompts <= room.batch and _fits(room, prompts, new + 1):
            yield Prefill(new, prompts=prompts, repeats=repeats)


def _decodes(room: Room, *, quick: bool) -> Iterable[Decode]:
    steps = 24 if quick else 64
    contexts = (256, 2048) if quick else (512, 2048, 8192)
    batches = (1, 4, 16, 64) if quick else (1, 4, 16, 64, 128, 256, 384)
    for context in _contexts(room, contexts, steps):
        for batch in batches:
            small = batch * context <= (room.quick_tokens if quick else room.kv_tokens)
            if small and batch <= room.batch and _fits(room, batch, context + 2 * steps):
                yield Decode(batch, context, steps)


def _contexts(room: Room, wanted: Iterable[int], steps: int) -> list[int]:
    """Whole blocks, so that a prompt that was computed once is found again."""
    block = room.block_tokens
    rounded = [max(tokens // block, 1) * block for tokens in wanted]
    most = (room.longest_tokens - 2 * steps - 2) // block * block
    found = {tokens for tokens in rounded if tokens <= most}
    if len(found) < 2:
        # A model with a short context has points of its own.
        found |= {most // 2 // block * block, most} - {0}
    return sorted(found)


def _fits(room: Room, requests: int, tokens: int) -> bool:
    blocks = -(-tokens // room.block_tokens)
    return requests * blocks * room.block_tokens <= room.kv_tokens * _KV_SHARE
