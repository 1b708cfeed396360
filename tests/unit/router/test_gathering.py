"""Outputs that wait for each other: nothing is lost, nothing that says more is joined."""

from __future__ import annotations

from typing import Any

import pytest

from router.gathering import EVENTS, FINISH, NAME, STOP, TOKENS, Gathered, Output

LENGTH = 1
LOGPROBS, LAST = 2, 17


def output(name: str, *tokens: int, **more: Any) -> Output:
    fields: Output = [name, list(tokens), *[None] * 16]
    fields[13] = 0
    for field, value in more.items():
        fields[int(field.removeprefix("f"))] = value
    return fields


def taken(*outputs: Output) -> list[tuple[str, list[int]]]:
    gathered = Gathered()
    for one in outputs:
        gathered.add(one)
    return [(one[NAME], one[TOKENS]) for one in gathered.take()]


def test_tokens_of_a_request_become_one_output() -> None:
    steps = [output("a", 1), output("b", 2), output("a", 3, 4), output("b", 5), output("a", 6)]
    assert taken(*steps) == [("a", [1, 3, 4, 6]), ("b", [2, 5])]


def test_how_it_ended_is_told_with_the_last_of_them() -> None:
    gathered = Gathered()
    last = output("a", 2)
    last[FINISH], last[STOP] = LENGTH, "stop here"
    gathered.add(output("a", 1))
    gathered.add(last)
    (one,) = gathered.take()
    assert (one[TOKENS], one[FINISH], one[STOP]) == ([1, 2], LENGTH, "stop here")


@pytest.mark.parametrize("field", [LOGPROBS, EVENTS, LAST])
def test_what_says_more_stays_as_it_is(field: int) -> None:
    said = {f"f{field}": ["something"]}
    assert taken(output("a", 1), output("a", 2, **said), output("a", 3), output("a", 4)) == [
        ("a", [1]), ("a", [2]), ("a", [3, 4]),
    ]  # fmt: skip


def test_a_name_that_is_used_again_is_another_request() -> None:
    ended = output("a", 1)
    ended[FINISH] = LENGTH
    assert taken(ended, output("a", 2)) == [("a", [1]), ("a", [2])]


def test_what_was_taken_has_left() -> None:
    gathered = Gathered()
    gathered.add(output("a", 1))
    assert len(gathered.take()) == 1
    assert gathered.take() == []
    gathered.add(output("a", 2))
    assert [one[TOKENS] for one in gathered.take()] == [[2]]
