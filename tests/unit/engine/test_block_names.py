"""Blocks get the keys that a router computes from the same prompt, or none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton import prefix_keys
from engine.block_names import BlockNames

BLOCK = 4
TOKENS = list(range(100, 112))
PLAIN = prefix_keys.of_tokens(TOKENS, BLOCK, prefix_keys.salt("m"))


def names(blocks_max: int = 100) -> BlockNames:
    return BlockNames("m", BLOCK, blocks_max)


def keys(some: BlockNames) -> tuple[set[int], set[int]]:
    stored, removed = some.take()
    return set(stored), set(removed)


def test_a_prompt_stored_in_parts_has_the_keys_of_the_whole() -> None:
    some = names()
    some.stored(["a"], None, TOKENS[:4], None, None)
    some.stored(["b", "c"], "a", TOKENS[4:], None, [None, None])
    assert keys(some) == (set(PLAIN), set())
    assert some.left_out == 0


@pytest.mark.parametrize(
    ("lora", "extras", "start"),
    [
        (None, [("tenant",), None, None], prefix_keys.salt("m", "", "tenant")),
        ("l", [("l",)] * 3, prefix_keys.salt("m", "l")),
        ("l", [("l", "tenant"), ("l",), ("l",)], prefix_keys.salt("m", "l", "tenant")),
        ("l", [("l", "l"), ("l",), ("l",)], prefix_keys.salt("m", "l", "l")),
    ],
)
def test_the_chain_starts_from_model_lora_and_salt(
    lora: str | None, extras: list[Any], start: int
) -> None:
    some = names()
    some.stored(["a", "b", "c"], None, TOKENS, lora, extras)
    assert keys(some)[0] == set(prefix_keys.of_tokens(TOKENS, BLOCK, start))


@pytest.mark.parametrize(
    ("hashes", "parent", "tokens", "extras", "named"),
    [
        (["b", "c"], "unknown", TOKENS[4:], None, 0),
        (["a", "b", "c"], None, TOKENS[:-1], None, 0),
        (["a", "b", "c"], None, TOKENS, [None], 0),
        (["a", "b", "c"], None, TOKENS, [(("image", 0),), None, None], 0),
        (["a", "b", "c"], None, TOKENS, [(b"digest",), None, None], 0),
        (["a", "b", "c"], None, TOKENS, [("salt", b"digest"), None, None], 0),
        (["a", "b", "c"], None, TOKENS, [None, (("image", 0),), None], 1),
        ([], None, [], None, 0),
    ],
)
def test_a_block_that_cannot_be_named_is_left_out_with_all_behind_it(
    hashes: list[str], parent: str | None, tokens: list[int], extras: Any, named: int
) -> None:
    some = names()
    some.stored(hashes, parent, tokens, None, extras)
    assert keys(some) == (set(PLAIN[:named]), set())
    assert some.left_out == len(hashes) - named
    for block in hashes:
        some.removed(block)
    assert len(some) == 0


def test_a_block_with_two_copies_is_held_until_both_are_gone() -> None:
    some = names()
    for _ in range(3):
        some.stored(["a"], None, TOKENS[:4], None, None)
    assert keys(some) == ({PLAIN[0]}, set())
    some.removed("a")
    some.removed("a")
    assert keys(some) == (set(), set())
    some.removed("a")
    assert keys(some) == (set(), {PLAIN[0]})
    some.removed("a")
    assert keys(some) == (set(), set())


def test_a_child_keeps_its_name_when_its_parent_is_gone_and_returns() -> None:
    some = names()
    some.stored(["a", "b"], None, TOKENS[:8], None, None)
    some.removed("a")
    some.stored(["c"], "b", TOKENS[8:], None, None)
    assert keys(some)[0] == set(PLAIN[1:])
    some.stored(["a"], None, TOKENS[:4], None, None)
    assert keys(some) == ({PLAIN[0]}, set())


def test_an_emptied_cache_holds_nothing() -> None:
    some = names()
    some.stored(["a", "b", "c"], None, TOKENS, None, None)
    some.stored(["a"], None, TOKENS[:4], None, None)
    some.take()
    some.cleared()
    assert keys(some) == (set(), set(PLAIN))
    assert len(some) == 0


def test_no_more_than_the_pool_can_hold() -> None:
    some = names(2)
    some.stored(["a", "b", "c"], None, TOKENS, None, None)
    assert (len(some), some.left_out) == (2, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_copies_are_counted(events: list[tuple[bool, int]]) -> None:
    some, copies, held = names(), Counter[int](), set[int]()
    for store, first in events:
        if store:
            copies[first] += 1
            some.stored([first], None, [first] * BLOCK, None, None)
        elif copies[first]:
            copies[first] -= 1
            some.removed(first)
        stored, removed = keys(some)
        held = (held | stored) - removed
        wanted = [block for block, count in copies.items() if count]
        assert len(held) == len(wanted) == len(some)
