"""Who holds which blocks: exact from deltas, honest about gaps; the shadow of own dispatches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.index import Applied, BlockIndex, Delta, Shadow

PROMPT = (1, 2, 3, 4)
CHANGES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9))),
    max_size=30,
)


def full(index, worker, *blocks, number=1):
    assert index.apply(worker, Delta(number, blocks, full=True), 0.0) is Applied.OK


def lengths(levels, workers=4):
    return [next((n for n, mask in levels if mask >> w & 1), 0) for w in range(workers)]


def prefix(prompt, held):
    return next((n for n, block in enumerate(prompt) if block not in held), len(prompt))


def test_the_longest_prefix_on_each_worker() -> None:
    index = BlockIndex(100)
    full(index, 0, 1, 2, 3, 4)
    full(index, 1, 1, 2, 4)
    full(index, 2, 2, 3, 4)
    full(index, 3, 1, 2)
    assert index.match(PROMPT) == ((4, 0b0001), (2, 0b1010))
    assert index.match(()) == ()


@given(CHANGES, st.permutations([1, 2, 3, 4, 5]))
def test_it_is_what_sets_would_say(changes, prompt) -> None:
    index, held, number = BlockIndex(100), [set() for _ in range(4)], [1] * 4
    for worker in range(4):
        full(index, worker)
    for worker, stored, removed in changes:
        number[worker] += 1
        delta = Delta(number[worker], tuple(stored), tuple(removed))
        assert index.apply(worker, delta, 1.0) is Applied.OK
        held[worker] = (held[worker] | set(stored)) - set(removed)
    assert lengths(index.match(prompt)) == [prefix(prompt, h) for h in held]
    assert [index.blocks_of(w) for w in range(4)] == [len(h) for h in held]
    assert len(index) == len(set().union(*held))


def test_a_gap_makes_a_worker_unknown_until_a_full_list_comes() -> None:
    index = BlockIndex(100)
    full(index, 0, 1, 2)
    full(index, 1, 1)
    assert index.apply(0, Delta(3, (3,)), 1.0) is Applied.GAP
    assert lengths(index.match(PROMPT)) == [0, 1, 0, 0]
    assert index.apply(0, Delta(4, (4,)), 1.0) is Applied.GAP
    full(index, 0, 1, 2, 3, number=9)
    assert index.apply(0, Delta(9, (4,)), 1.0) is Applied.STALE
    assert index.apply(0, Delta(10, (4,)), 1.0) is Applied.OK
    assert lengths(index.match(PROMPT)) == [4, 1, 0, 0]


def test_age_counts_from_the_last_word() -> None:
    index = BlockIndex(100)
    assert index.age_s(0, 5.0) == float("inf")
    full(index, 0, 1)
    assert index.heard(0, 1, 3.0) is Applied.OK
    assert index.heard(0, 1, 2.0) is Applied.OK
    assert index.age_s(0, 5.0) == 2.0
    assert index.heard(0, 2, 6.0) is Applied.GAP
    assert index.age_s(0, 6.0) == float("inf")


def test_a_worker_that_claims_too_much_is_dropped_and_memory_returns() -> None:
    index = BlockIndex(3)
    full(index, 0, 1, 2, 3)
    assert index.apply(0, Delta(2, (4,)), 1.0) is Applied.FULL
    assert len(index) == 0
    full(index, 1, 1)
    index.forget(1)
    assert (len(index), index.match(PROMPT)) == (0, ())


def test_the_shadow_forgets_tails_first() -> None:
    shadow = Shadow(2, blocks_max=5)
    shadow.sent(0, (1, 2, 3, 4))
    shadow.sent(1, (1, 2))
    shadow.sent(0, (1, 8, 9))
    assert lengths(shadow.match(PROMPT), 2) == [3, 2]
    shadow.forget(0)
    assert lengths(shadow.match(PROMPT), 2) == [0, 2]


@pytest.mark.parametrize("workers", [64, 200])
def test_any_number_of_workers(workers) -> None:
    index = BlockIndex(10)
    for worker in range(workers):
        full(index, worker, *PROMPT[: worker % 5])
    assert lengths(index.match(PROMPT), workers) == [w % 5 for w in range(workers)]
