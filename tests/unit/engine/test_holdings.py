"""What a router adds up from the news it gets is what is held, whenever it is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.holdings import CacheNews, CacheView, Holdings, NetChange

KEYS = st.sets(st.integers(0, 12), max_size=6)
STEPS = st.lists(
    st.tuples(KEYS, KEYS, st.sampled_from(["", "first", "second", "resync"])), max_size=30
)


class Router:
    """Applies deltas as a router does."""

    def __init__(self, view: CacheView) -> None:
        self.view = view
        self.held: set[int] = set()
        self.number = 0

    def hear(self) -> CacheNews:
        news = self.view.take()
        says = bool(news.stored or news.removed or news.full)
        assert news.number == self.number + says
        self.number = news.number
        if news.full:
            self.held = set()
        assert not self.held.intersection(news.stored)
        assert self.held.issuperset(news.removed)
        self.held = self.held.union(news.stored).difference(news.removed)
        return news


@given(STEPS, st.integers(0, 13))
def test_deltas_in_order_are_the_full_set(
    steps: list[tuple[set[int], set[int], str]], most: int
) -> None:
    holdings = Holdings(most)
    routers = {name: Router(holdings.open_view()) for name in ("first", "second")}
    for stored, removed, act in steps:
        holdings.apply(stored, removed)
        assert len(holdings) <= most
        if act == "resync":
            routers["first"].view.resync()
        elif act:
            routers[act].hear()
    for router in routers.values():
        router.hear()
        assert len(router.held) == len(holdings)
        assert all(key in holdings for key in router.held)
        assert not router.view.pending
        assert router.hear() == CacheNews(router.number)


def test_the_first_news_is_whole_even_when_nothing_is_held() -> None:
    assert Holdings(3).open_view().take() == CacheNews(1, (), (), full=True)


def test_what_came_and_went_is_no_news() -> None:
    holdings = Holdings(9)
    holdings.apply([1], [])
    view = holdings.open_view()
    view.take()
    holdings.apply([2], [1])
    holdings.apply([1], [2])
    assert not view.pending
    assert view.take() == CacheNews(1)


def test_a_router_that_lost_something_hears_all() -> None:
    holdings = Holdings(9)
    view = holdings.open_view()
    view.take()
    holdings.apply([1, 2], [])
    view.resync()
    holdings.apply([3], [])
    news = view.take()
    assert (news.number, set(news.stored), news.full) == (2, {1, 2, 3}, True)
    assert view.take() == CacheNews(2)


def test_a_closed_view_costs_nothing_more() -> None:
    holdings = Holdings(9)
    view = holdings.open_view()
    view.take()
    holdings.close_view(view)
    holdings.apply([1], [])
    assert not view.pending


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    holdings = Holdings(2)
    holdings.apply([1, 2, 3], [])
    assert (len(holdings), holdings.left_out) == (2, 1)
    holdings.apply([4], [key for key in (1, 2, 3) if key in holdings])
    assert len(holdings) == 1
    assert 4 in holdings


def test_only_leading_blocks_count() -> None:
    holdings = Holdings(9)
    holdings.apply([1, 2, 4], [])
    assert [holdings.leading(keys) for keys in ([], [1, 2, 3, 4], [1, 2], [3, 1])] == [0, 2, 2, 0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_single_changes_add_up_like_sets(changes: list[tuple[bool, int]]) -> None:
    one, many = NetChange(), NetChange()
    held: set[int] = set()
    for store, key in changes:
        if store and key not in held:
            held.add(key)
            one.store(key)
            many.add({key}, set())
        elif not store and key in held:
            held.remove(key)
            one.remove(key)
            many.add(set(), {key})
    assert bool(one) is bool(many) is bool(held)
    assert one.take() == many.take() == (held, set())
    assert not one
