"""What "the same answer" means: greedy tokens against a reference engine's.

Both sides compute in float32. Other batch shapes add up in another order, so two tokens whose
logprobs nearly tie may swap; everything after that is another text. A difference is therefore
wrong unless the reference itself hardly preferred its token where the two first differ. Ties are
counted, and many of them are wrong too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

TIE_GAP_NATS = 0.02
TIE_SHARE_MAX = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """The reference's tokens, and for each the gap between its two best logprobs in nats.

    Raises ValueError when the two differ in length.
    """

    tokens: tuple[int, ...]
    gaps: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.gaps):
            raise ValueError(f"{len(self.tokens)} tokens and {len(self.gaps)} gaps")


class Verdict(StrEnum):
    """How one answer compares."""

    EQUAL = "equal"
    TIE = "tie"
    WRONG = "wrong"


def divergence(reference: Sequence[int], tokens: Sequence[int]) -> int | None:
    """The first position where the two differ, an end included; None when they are equal."""
    for position, (ours, theirs) in enumerate(zip(reference, tokens, strict=False)):
        if ours != theirs:
            return position
    return None if len(reference) == len(tokens) else min(len(reference), len(tokens))


def judge(reference: Answer, tokens: Sequence[int]) -> Verdict:
    """Compare one answer. One that only ends sooner or later than the reference is wrong."""
    position = divergence(reference.tokens, tokens)
    if position is None:
        return Verdict.EQUAL
    if position >= min(len(reference.tokens), len(tokens)):
        return Verdict.WRONG
    return Verdict.TIE if reference.gaps[position] < TIE_GAP_NATS else Verdict.WRONG


@dataclass(frozen=True, slots=True)
class Score:
    """Many answers compared. `wrong` and `ties` are their indices."""

    answers: int
    tokens: int
    """Tokens of the references."""
    ties: tuple[int, ...]
    wrong: tuple[int, ...]

    @property
    def tie_share(self) -> float:
        """Ties per token compared."""
        return len(self.ties) / self.tokens if self.tokens else 0.0

    @property
    def same(self) -> bool:
        """Whether the two sides count as giving the same answers."""
        return not self.wrong and self.tie_share < TIE_SHARE_MAX


def score(pairs: Iterable[tuple[Answer, Sequence[int]]]) -> Score:
    """Compare many answers, each with its reference."""
    compared = [(reference, judge(reference, tokens)) for reference, tokens in pairs]
    return Score(
        answers=len(compared),
        tokens=sum(len(reference.tokens) for reference, _ in compared),
        ties=tuple(i for i, (_, verdict) in enumerate(compared) if verdict is Verdict.TIE),
        wrong=tuple(i for i, (_, verdict) in enumerate(compared) if verdict is Verdict.WRONG),
    )
