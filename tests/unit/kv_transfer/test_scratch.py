"""Scratch memory: blocks as they lie in it."""

from __future__ import annotations

from itertools import pairwise

from kv_transfer.scratch import SCRATCH_BYTES, Area, Shape

SHAPE = Shape((100, 100, 50))
AREA = Area(1000, 750, 7)


def test_blocks_that_fit() -> None:
    assert SHAPE.block_bytes == 250
    assert SHAPE.blocks_in(AREA) == 3


def test_room_is_whole_blocks_bounded_in_bytes_and_pieces() -> None:
    assert Shape((2**20,) * 3).room() == 30 * 2**20
    assert Shape((2**26,)).room() == 2**26
    assert Shape((1024,) * 8).room() == 512 * 8 * 1024 < SCRATCH_BYTES


def test_pieces_lie_region_by_region_inside_the_area() -> None:
    found = SHAPE.descriptors(AREA, 3)
    assert found[:4] == [(1000, 100, 7), (1100, 100, 7), (1200, 100, 7), (1300, 100, 7)]
    assert found[-1] == (1700, 50, 7)
    spans = sorted((address, address + size) for address, size, _ in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= AREA.base + AREA.size


def test_both_ends_never_run_side_by_side() -> None:
    here = SHAPE.places(2, 3, backwards=False)
    there = SHAPE.places(2, 3, backwards=True)
    assert here == [0, 1, 3, 4, 6, 7]
    assert there == [2, 1, 5, 4, 8, 7]
    pairs = list(zip(here, there, strict=True))
    assert not any((a + 1, b + 1) in pairs for a, b in pairs)
