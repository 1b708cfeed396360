"""Outputs of several engine steps that leave together, the tokens of each request as one output.

A front end works per message and per output, hardly per token: where steps follow each other faster
than anybody reads, joining them makes a token cheaper.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Output: TypeAlias = list[Any]
"""The fields of an EngineCoreOutput of vLLM 0.32 (tests/wire/test_vllm_contract_link.py)."""

NAME, TOKENS, FINISH, STOP, EVENTS = 0, 1, 5, 6, 7
BARE: Output = [*[None] * 11, 0, *[None] * 4]
"""What stands behind the tokens of an output that is nothing but tokens."""
_REST = slice(TOKENS + 1, None)
_END = slice(FINISH, STOP + 1)


class Gathered:
    """What has not left yet."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._open: dict[str, Output] = {}
        """By request: its last output, where tokens can be added to that."""

    def add(self, output: Output) -> None:
        """Takes an output, which may be changed from here on."""
        name = output[NAME]
        last = self._open.get(name)
        if output[_REST] != BARE:
            self._add_last(output, last)
        elif last is None:
            self._open[name] = output
            self._outputs.append(output)
        else:
            last[TOKENS] += output[TOKENS]

    def _add_last(self, output: Output, last: Output | None) -> None:
        """Nothing is added to what says more than tokens."""
        self._open.pop(output[NAME], None)
        said = [*output]
        said[_END] = None, None
        if last is not None and said[_REST] == BARE:
            last[TOKENS] += output[TOKENS]
            last[_END] = output[_END]
        else:
            self._outputs.append(output)

    def take(self) -> list[Output]:
        """All of it, in the order in which it came; nothing is left."""
        outputs, self._outputs, self._open = self._outputs, [], {}
        return outputs
