"""Counts and role changes become places, and nothing moves that need not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baton.ids import WorkerId
from baton.messages import Role
from cluster.pools import resized, sizes
from cluster.supervision import Wanted

P, D = Role.PREFILL, Role.DECODE
_SIZES = st.tuples(st.integers(0, 5), st.integers(0, 5))


def _after(wanted: Wanted, counts: tuple[int, int], leave: tuple[int, int] = (0, 0)) -> Wanted:
    return resized(
        wanted, dict(zip((P, D), counts, strict=True)), dict(zip((P, D), leave, strict=True))
    )


def test_pools_grow_and_shrink_at_their_ends() -> None:
    assert _after(Wanted(1, 1), (1, 3)) == Wanted(1, 3)
    assert _after(Wanted(2, 3), (2, 1)) == Wanted(2, 1)


def test_a_worker_changes_its_pool_and_comes_back() -> None:
    away = _after(Wanted(2, 1), (1, 2), (1, 0))
    assert away == Wanted(2, 1, ((WorkerId("prefill-0"), D),))
    assert sizes(away) == {P: 1, D: 2}
    assert _after(away, (2, 1), (0, 1)) == Wanted(2, 1)


def test_of_a_pool_with_a_guest_the_last_of_the_guests_home_goes() -> None:
    away = Wanted(3, 1, ((WorkerId("prefill-0"), D),))
    # prefill-0 goes home, prefill-2 leaves: two prefill and one decode worker as wanted.
    assert _after(away, (2, 1)) == Wanted(2, 1)
    assert _after(Wanted(1, 2, ((WorkerId("prefill-0"), D),)), (0, 2)) == Wanted(0, 2)


def test_who_has_the_last_place_and_works_elsewhere_is_relieved() -> None:
    away = Wanted(2, 1, ((WorkerId("prefill-1"), D),))
    assert _after(away, (0, 2)) == Wanted(1, 1, ((WorkerId("prefill-0"), D),))


@given(_SIZES, st.lists(st.tuples(_SIZES, _SIZES), max_size=6))
def test_the_pools_are_always_as_large_as_they_should_be(first, steps) -> None:
    wanted = Wanted(*first)
    for counts, leave in steps:
        wanted = _after(wanted, counts, leave)
        assert sizes(wanted) == dict(zip((P, D), counts, strict=True))
        assert {i for i, _ in wanted.roles} <= {i for i, _ in wanted.slots()}
        assert all(dict(wanted.slots())[i] is not role for i, role in wanted.roles)
        assert _after(wanted, counts) == wanted
