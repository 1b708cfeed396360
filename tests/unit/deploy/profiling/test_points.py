"""What is measured fits into the engine, whatever its size."""

import argparse
from dataclasses import replace
from itertools import product

import pytest

from deploy.profiling.options import add
from deploy.profiling.points import Decode, Point, Prefill, Room, grid

SMALL = Room(longest_tokens=512, kv_tokens=4096, batch=4, block_tokens=128)
DEMO = Room(longest_tokens=8192, kv_tokens=262_144, batch=256, block_tokens=128)
LARGE = Room(longest_tokens=32_768, kv_tokens=800_000, batch=512, block_tokens=16)


def needed(point: Point, block: int) -> tuple[int, int]:
    """(tokens of one request, tokens of all in whole blocks)."""
    if isinstance(point, Decode):
        one, many = point.context + 2 * point.steps, point.batch
    else:
        one, many = point.new + point.cached + 1, point.prompts
    return one, many * -(-one // block) * block


@pytest.mark.parametrize(("room", "quick"), [*product((SMALL, DEMO, LARGE), (True, False))])
def test_all_points_fit_and_are_enough_for_a_model(room: Room, quick: bool) -> None:
    points = grid(room, quick=quick)
    for point in points:
        one, all_of_them = needed(point, room.block_tokens)
        assert one <= room.longest_tokens
        assert all_of_them <= room.kv_tokens
        if isinstance(point, Decode):
            assert point.batch <= room.batch
            assert point.context % room.block_tokens == 0
        else:
            assert point.cached % room.block_tokens == 0
    assert len({str(point) for point in points}) == len(points)
    single = [p for p in points if isinstance(p, Prefill) and not p.cached and p.prompts == 1]
    assert len(single) >= 3
    assert max(p.new for p in single) == room.longest_tokens - 1
    assert len([p for p in points if isinstance(p, Decode)]) >= 3


def test_quick_is_less_work() -> None:
    room = replace(DEMO, longest_tokens=4096, quick_tokens=8192)
    quick = grid(room, quick=True)
    assert sum(p.work for p in quick) < sum(p.work for p in grid(DEMO, quick=False)) / 8
    assert max(p.batch * p.context for p in quick if isinstance(p, Decode)) <= 8192


def test_large_engines_are_measured_at_the_points_of_known_profiles() -> None:
    points = grid(LARGE, quick=False)
    assert {Prefill(n) for n in (64, 512, 4096, 16_384)} <= set(points)
    assert {Decode(128, 512), Decode(64, 8192), Decode(256, 2048)} <= set(points)
    assert any(isinstance(p, Prefill) and p.cached > 16_384 for p in points)


@pytest.mark.parametrize("longest", [2, 3, 9, 64])
def test_a_tiny_context_has_fewer_lengths(longest: int) -> None:
    points = grid(replace(SMALL, longest_tokens=longest), quick=True)
    lengths = [p.new for p in points if isinstance(p, Prefill) and p.prompts == 1]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] == longest - 1


@pytest.mark.parametrize("text", ["8", "63", "-1", "x"])
def test_the_longest_is_no_shorter_than_the_shortest(text: str) -> None:
    parser = argparse.ArgumentParser()
    add(parser)
    assert parser.parse_args(["--longest", "64"]).longest == 64
    with pytest.raises(SystemExit):
        parser.parse_args([f"--longest={text}"])
