"""Outputs of several engine steps that leave together, the tokens of each request as one output.

A front end works per message and per output, hardly per token: where steps follow each other faster
than anybody reads, joining them makes a token cheaper.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Output: TypeAlias = list[Any]
"""The fields of an EngineCoreOutput of vLLM 0.32 (tests/wire/test_vllm_contract_link.py)."""

NAME, TOKENS, FINISH, STOP, EVENTS = 0, 1, 5, 6, 7
_BEFORE_END, _END, _AFTER_END = slice(2, FINISH), slice(FINISH, STOP + 1), slice(STOP + 1, None)


class Gathered:
    """What has not left yet."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._open: dict[str, Output] = {}
        """By request: its last output, where tokens can be added to that."""

    def add(self, output: Output) -> None:
        """Takes an output, which may be changed from here on."""
        name = output[NAME]
        bare = not any(output[_BEFORE_END]) and not any(output[_AFTER_END])
        last = self._open.pop(name, None)
        if last is None or not bare:
            last = output
            self._outputs.append(output)
        else:
            last[TOKENS] += output[TOKENS]
            last[_END] = output[_END]
        if bare and output[FINISH] is None:
            self._open[name] = last

    def take(self) -> list[Output]:
        """All of it, in the order in which it came; nothing is left."""
        outputs, self._outputs, self._open = self._outputs, [], {}
        return outputs
