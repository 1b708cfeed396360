"""A checksum changes with every word, with its place and with the block."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.sums import Sums, views_of

BLOCKS, WORDS = 4, 8
_WORD = st.integers(-(2**31), 2**31 - 1)
_ROWS = st.lists(_WORD, min_size=2 * BLOCKS * WORDS, max_size=2 * BLOCKS * WORDS)


def regions(words: list[int]) -> list[torch.Tensor]:
    both = torch.tensor(words, dtype=torch.int32).view(2, BLOCKS, WORDS)
    return list(both.clone().unbind(0))


@given(_ROWS, st.integers(0, 1), st.integers(0, BLOCKS - 1), st.integers(0, WORDS - 1), _WORD)
def test_any_changed_word_changes_its_blocks_sum_and_no_other(
    words: list[int], region: int, block: int, place: int, value: int
) -> None:
    tensors = regions(words)
    sums = Sums(tensors)
    before = sums.of(range(BLOCKS), 0, 1)
    changed = int(tensors[region][block, place]) != value
    tensors[region][block, place] = value
    after = sums.of(range(BLOCKS), 0, 1)
    assert [i for i in range(BLOCKS) if before[i] != after[i]] == ([block] if changed else [])


@given(_ROWS, st.integers(0, WORDS - 1), st.integers(0, WORDS - 1))
def test_swapped_words_show(words: list[int], one: int, other: int) -> None:
    tensors = regions(words)
    sums = Sums(tensors)
    before = sums.of([0], 0, 1)
    row = tensors[0][0]
    same = one == other or int(row[one]) == int(row[other])
    row[[one, other]] = row[[other, one]]
    assert (sums.of([0], 0, 1) == before) is same


def test_swapped_blocks_show() -> None:
    sums = Sums(regions(list(range(2 * BLOCKS * WORDS))))
    one, other = sums.of([1, 2], 0, 1)
    assert one != other
    assert sums.of([2, 1], 0, 1) == (other, one)


def test_swapped_regions_show() -> None:
    k, v = regions(list(range(2 * BLOCKS * WORDS)))
    assert Sums([k, v]).of([0], 0, 1) != Sums([v, k]).of([0], 0, 1)


@given(_ROWS)
def test_sums_fit_into_63_bits_and_depend_on_content_alone(words: list[int]) -> None:
    first, second = Sums(regions(words)), Sums(regions(words))
    found = first.of([3, 0, 0], 0, 1)
    assert found == second.of([3, 0, 0], 0, 1)
    assert found[1] == found[2]
    assert all(0 <= value < 2**63 for value in found)


def test_no_blocks_have_no_sums() -> None:
    assert Sums(regions([1] * 2 * BLOCKS * WORDS)).of([], 0, 1) == ()


# --- layers ---------------------------------------------------------------------------------------


def layers_of(count: int, each: int) -> list[torch.Tensor]:
    words = torch.arange(count * each * BLOCKS * WORDS, dtype=torch.int32) * 2654435
    return list(words.view(count * each, BLOCKS, WORDS).clone().unbind(0))


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("changed", range(3))
def test_a_sum_is_of_its_layers_alone(each: int, changed: int) -> None:
    tensors = layers_of(3, each)
    sums = Sums(tensors, layers=3)
    ranges = [(layer, layers) for layer in range(3) for layers in range(1, 4 - layer)]
    before = {r: sums.of([0, 2], *r) for r in ranges}
    tensors[changed * each + each - 1][2, 5] += 1
    for first, layers in ranges:
        one, other = sums.of([0, 2], first, layers)
        was, other_was = before[(first, layers)]
        assert one == was
        assert (other != other_was) is (first <= changed < first + layers)


def test_layers_have_sums_of_their_own_and_their_order_shows() -> None:
    tensors = layers_of(3, 1)
    sums, swapped = Sums(tensors, 3), Sums([tensors[1], tensors[0], tensors[2]], 3)
    assert len({sums.of([1], layer, 1) for layer in range(3)}) == 3
    assert sums.of([1], 0, 1) == swapped.of([1], 1, 1)
    assert sums.of([1], 0, 2) != swapped.of([1], 0, 2)


def test_a_sum_does_not_depend_on_the_layers_around() -> None:
    tensors = layers_of(3, 2)
    assert Sums(tensors, 3).of([1, 3], 1, 1) == Sums(tensors[2:4]).of([1, 3], 0, 1)


def test_layers_may_differ_in_size() -> None:
    wide, narrow = torch.ones(BLOCKS, 2 * WORDS, dtype=torch.int32), layers_of(1, 1)[0]
    sums = Sums([wide, narrow], 2)
    assert sums.of([1], 1, 1) == Sums([narrow]).of([1], 0, 1)
    assert sums.of([1], 0, 1) == Sums([wide]).of([1], 0, 1)


# --- views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1, 3), (3, 1, 2), (3, 2, 1)])
def test_a_block_is_seen_as_it_lies_whatever_the_order_of_its_dimensions(
    order: tuple[int, int, int],
) -> None:
    plain = torch.arange(BLOCKS * 24, dtype=torch.float32).view(BLOCKS, 2, 3, 4)
    (expected,) = views_of([plain], BLOCKS)
    (seen,) = views_of([plain.permute(0, *order)], BLOCKS)
    assert seen.shape == (BLOCKS, 24)
    assert torch.equal(seen, expected)
    assert Sums([seen]).of(range(BLOCKS), 0, 1) == Sums([expected]).of(range(BLOCKS), 0, 1)
    plain[3, 1, 2, 3] = -1
    assert torch.equal(seen, expected)
    assert seen[3, -1] == torch.tensor(-1.0).view(torch.int32)


def test_k_and_v_that_lie_apart_and_are_permuted_are_seen_apart() -> None:
    both = torch.zeros(2, BLOCKS, 3, 4, dtype=torch.bfloat16)
    k, v = both.permute(0, 1, 3, 2).unbind(0)
    view_k, view_v = views_of([k, v], BLOCKS)
    both[1, 2] = 1
    assert view_k.count_nonzero() == 0
    assert [int(row.count_nonzero()) for row in view_v] == [0, 0, 6, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.uint8])
def test_views_are_the_same_memory_word_by_word(dtype: torch.dtype) -> None:
    tensor = torch.zeros(BLOCKS, 2, 8, dtype=dtype)
    (view,) = views_of([tensor], BLOCKS)
    assert view.shape == (BLOCKS, 16 * tensor.element_size() // 4)
    tensor[2, 1, 7] = 1
    assert view[2, -1] != 0
    assert int(view.count_nonzero()) == 1


def test_views_leave_out_what_lies_between_blocks() -> None:
    whole = torch.zeros(BLOCKS, 2, 8, dtype=torch.float32)
    view_k, view_v = views_of([whole[:, 0], whole[:, 1]], BLOCKS)
    whole[1, 1] = 1.0
    assert view_k.count_nonzero() == 0
    assert view_v[1].count_nonzero() == 8


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(BLOCKS, 4, 8)[:, :, :4],
        torch.zeros(BLOCKS, 4, 8)[:, ::2],
        torch.zeros(BLOCKS + 1, 8),
        torch.zeros(BLOCKS, 3, dtype=torch.uint8),
        torch.zeros(BLOCKS, 9, dtype=torch.uint8)[:, :8],
    ],
)
def test_what_is_no_row_of_words_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="KV"):
        views_of([tensor], BLOCKS)
