"""Routing keys grow while too hot for two workers, and shrink again."""

import pytest

from router.policy.hotness import Hotness

HOT = tuple(range(1, 13))


def feed(hotness, count, hot_every, start=0):
    for n in range(start, start + count):
        own = (10**6 + n, 2 * 10**6 + n, 3 * 10**6 + n)
        hotness.observe((*HOT, *own) if n % hot_every == 0 else own)


def test_two_blocks_where_nothing_is_hot() -> None:
    hotness = Hotness(8)
    feed(hotness, 500, hot_every=10)
    assert hotness.observe((*HOT, 5, 6)).blocks == 2


def test_a_shared_prompt_is_cut_behind_its_end() -> None:
    hotness = Hotness(8)
    feed(hotness, 2000, hot_every=2)
    key = hotness.observe((*HOT, 77, 78))
    assert key.blocks == len(HOT) + 1
    assert key.copies == 2


def test_a_key_shrinks_when_its_traffic_goes() -> None:
    hotness = Hotness(8)
    feed(hotness, 1000, hot_every=2)
    feed(hotness, 1000, hot_every=50, start=1000)
    assert hotness.observe((*HOT, 77)).blocks == 2


def test_a_hot_prompt_that_cannot_be_cut_gets_more_workers() -> None:
    hotness = Hotness(8)
    for n in range(400):
        hotness.observe((1, 2) if n % 2 else (1, 3 + n))
    key = hotness.observe((1, 2))
    assert key.share == pytest.approx(0.5, abs=0.05)
    assert 4 <= key.copies <= 6


def test_memory_is_bounded() -> None:
    hotness = Hotness(4)
    feed(hotness, 5000, hot_every=3)
    assert len(hotness._recent) == hotness._window
    assert len(hotness._counts) <= hotness._window * len(HOT)
    assert hotness._split <= set(hotness._counts)


def test_a_short_prompt_has_a_short_key_and_an_empty_one_none() -> None:
    assert Hotness(8).observe((1,)).blocks == 1
    with pytest.raises(ValueError, match="no routing key"):
        Hotness(8).observe(())
