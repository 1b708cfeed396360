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
    before = sums.of(range(BLOCKS))
    changed = int(tensors[region][block, place]) != value
    tensors[region][block, place] = value
    after = sums.of(range(BLOCKS))
    assert [i for i in range(BLOCKS) if before[i] != after[i]] == ([block] if changed else [])


@given(_ROWS, st.integers(0, WORDS - 1), st.integers(0, WORDS - 1))
def test_swapped_words_show(words: list[int], one: int, other: int) -> None:
    tensors = regions(words)
    sums = Sums(tensors)
    before = sums.of([0])
    row = tensors[0][0]
    same = one == other or int(row[one]) == int(row[other])
    row[[one, other]] = row[[other, one]]
    assert (sums.of([0]) == before) is same


def test_swapped_blocks_show() -> None:
    sums = Sums(regions(list(range(2 * BLOCKS * WORDS))))
    one, other = sums.of([1, 2])
    assert one != other
    assert sums.of([2, 1]) == (other, one)


def test_swapped_regions_show() -> None:
    k, v = regions(list(range(2 * BLOCKS * WORDS)))
    assert Sums([k, v]).of([0]) != Sums([v, k]).of([0])


@given(_ROWS)
def test_sums_fit_into_63_bits_and_depend_on_content_alone(words: list[int]) -> None:
    first, second = Sums(regions(words)), Sums(regions(words))
    found = first.of([3, 0, 0])
    assert found == second.of([3, 0, 0])
    assert found[1] == found[2]
    assert all(0 <= value < 2**63 for value in found)


def test_no_blocks_have_no_sums() -> None:
    assert Sums(regions([1] * 2 * BLOCKS * WORDS)).of([]) == ()


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
        torch.zeros(BLOCKS, 8, 2).transpose(1, 2),
        torch.zeros(BLOCKS + 1, 8),
        torch.zeros(BLOCKS, 3, dtype=torch.uint8),
        torch.zeros(BLOCKS, 9, dtype=torch.uint8)[:, :8],
    ],
)
def test_what_is_no_row_of_words_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="KV"):
        views_of([tensor], BLOCKS)
