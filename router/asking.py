"""Questions that are out: who was asked about which request, and what has come back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from baton.ids import LegId
from router.policy.prefill import Answer, Request

PATIENCE_S = 0.05
"""How long the slowest answer is waited for: far longer than a healthy worker takes, far less than
a prompt."""
HOLD_S = 0.25
"""How long a worker holds a place: past our patience and the way back."""


@dataclass(slots=True)
class Question:
    """One round of asking. `left` are the slots that have not answered."""

    request: Request
    leg_id: LegId
    asked: tuple[int, ...]
    asked_at: float
    left: set[int]
    answers: dict[int, Answer] = field(default_factory=dict)


class Questions:
    """All that are open, by leg. Bounded by the requests inside the router."""

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, request: Request, leg_id: LegId, slots: Iterable[int], now: float) -> Question:
        """Opens one."""
        asked = tuple(slots)
        question = Question(request, leg_id, asked, now, set(asked))
        self._open[str(leg_id)] = question
        return question

    def answered(self, leg_id: str, slot: int, answer: Answer | None) -> Question | None:
        """A worker's word, None when it would refuse; the question once everybody has answered."""
        question = self._open.get(leg_id)
        if question is None or slot not in question.left:
            return None
        question.left.discard(slot)
        if answer is not None:
            question.answers[slot] = answer
        return None if question.left else self._open.pop(leg_id)

    def unreachable(self, slot: int) -> list[Question]:
        """Nobody will answer there; the questions that are complete without."""
        waiting = [leg_id for leg_id, q in self._open.items() if slot in q.left]
        return [q for leg_id in waiting if (q := self.answered(leg_id, slot, None)) is not None]

    def late(self, now: float) -> list[Question]:
        """Takes out those that have waited long enough. A clock that jumps back ends them too."""
        late = [i for i, q in self._open.items() if not 0 <= now - q.asked_at < PATIENCE_S]
        return [self._open.pop(leg_id) for leg_id in late]

    def drop(self, leg_id: LegId) -> Question | None:
        """Its request has left."""
        return self._open.pop(str(leg_id), None)
