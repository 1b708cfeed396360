"""What resumed and direct answers need of vLLM's state of a request. Imports nothing of vLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def go_on_behind(state: Any, tokens: Sequence[int]) -> None:
    """The client has these tokens, and of their text what it would have got here by now."""
    state.detokenizer.update(list(tokens), stop_terminated=False)
    state.detokenizer.get_next_output_text(finished=False, delta=True)


def only_count(state: Any | None) -> None:
    """Nobody reads its text here: from now on its tokens are counted. None = it has ended."""
    if state is not None and not isinstance(state.detokenizer, Counted):
        state.detokenizer = Counted(state.detokenizer.output_token_ids)


def counter_of(state: Any) -> Callable[[], int]:
    """Says how many tokens have come, whoever keeps them."""

    def count() -> int:
        return int(state.detokenizer.num_output_tokens())

    return count


class Counted:
    """In the place of vLLM's `IncrementalDetokenizer`: keeps tokens, and knows no text."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.output_token_ids = list(tokens)

    def num_output_tokens(self) -> int:
        """How many have come."""
        return len(self.output_token_ids)

    def update(self, new_token_ids: Sequence[int], stop_terminated: bool) -> None:
        """Take tokens; no text in them ends the answer."""
        self.output_token_ids.extend(new_token_ids)

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """None of it."""
        return ""
