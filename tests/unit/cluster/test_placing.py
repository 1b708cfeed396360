"""Pack and spread are what they say, and whoever waits says for what."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.ids import WorkerId
from baton.messages import Role
from cluster.membership import Table, WorkerPlaced, WorkerProgressed, apply
from cluster.placing import Node, Seat, choose, lack, needs_of, waits

P = WorkerId("prefill-0")
WANTED = "waits for 4 GPU and 1 CPU on one node; "
ONE_GPU = {"GPU": 1.0, "CPU": 1.0}


def node(name: str, gpus: float, free: float | None = None) -> Node:
    left = gpus if free is None else free
    return Node(name, f"10.0.0.{name}", {"GPU": gpus, "CPU": 16.0}, {"GPU": left, "CPU": 16.0})


def seat_all(nodes: list[Node], workers: list[tuple[str, bool]]) -> list[Seat]:
    """Seats workers (pool, spread) one after the other, before Ray counts any of them."""
    seats: list[Seat] = []
    for pool, spread in workers:
        found = choose(nodes, seats, ONE_GPU, pool, spread=spread)
        seats.append(Seat(pool, found or "", ONE_GPU))
    return seats


def test_pack_fills_a_node_before_the_next() -> None:
    nodes = [node("1", 4), node("2", 4), node("3", 4)]
    seats = seat_all(nodes, [("prefill", False), ("decode", False)] * 3)
    assert Counter(seat.node_id for seat in seats) == {"1": 4, "2": 2}


def test_pack_takes_the_node_that_is_filled_by_it() -> None:
    nodes = [node("1", 8), node("2", 8, free=1), node("3", 8, free=0)]
    assert choose(nodes, [], ONE_GPU, "decode", spread=False) == "2"


def test_who_is_counted_by_ray_already_is_not_counted_twice() -> None:
    nodes = [node("1", 4, free=2), node("2", 4)]
    seats = [Seat("prefill", "1", ONE_GPU)] * 2
    assert choose(nodes, seats, ONE_GPU, "prefill", spread=False) == "1"
    # Somebody else's are counted as well.
    assert choose([node("1", 4, free=0)], seats, ONE_GPU, "prefill", spread=False) is None


def test_pack_stays_near_the_other_pool() -> None:
    nodes = [node("1", 8, free=6), node("2", 8, free=1)]
    assert choose(nodes, [Seat("decode", "1")], ONE_GPU, "prefill", spread=False) == "1"


def test_spread_takes_as_many_nodes_as_there_are() -> None:
    nodes = [node("1", 8), node("2", 8), node("3", 8)]
    seats = seat_all(nodes, [("prefill", True)] * 4 + [("decode", True)] * 3)
    for pool, most in (("prefill", 2), ("decode", 1)):
        counts = Counter(seat.node_id for seat in seats if seat.pool == pool)
        assert set(counts) == {"1", "2", "3"}
        assert max(counts.values()) == most


def test_one_pool_packs_and_the_other_spreads() -> None:
    nodes = [node("1", 4), node("2", 4)]
    seats = seat_all(nodes, [("prefill", False)] * 2 + [("decode", True)] * 2)
    found = [(seat.pool, seat.node_id) for seat in seats]
    assert found[:2] == [("prefill", "1")] * 2
    assert {node_id for pool, node_id in found if pool == "decode"} == {"1", "2"}


def test_an_engine_never_goes_where_only_part_of_it_fits() -> None:
    four = needs_of(1, 4, None, {})
    nodes = [node("1", 2), node("2", 2), node("3", 4, free=3)]
    assert choose(nodes, [], four, "prefill", spread=True) is None
    assert choose([*nodes, node("4", 8, free=4)], [], four, "prefill", spread=True) == "4"


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from(["prefill", "decode"]), st.booleans()), max_size=12),
    st.booleans(),
)
def test_nobody_is_sent_where_there_is_no_room(
    machines: list[int], workers: list[tuple[str, bool]], late: bool
) -> None:
    nodes = [node(str(i), gpus) for i, gpus in enumerate(machines)]
    seats: list[Seat] = []
    for pool, spread in workers:
        # Ray has counted all of the earlier ones, or none.
        counts = Counter(seat.node_id for seat in seats if not late)
        now = [node(n.node_id, n.total["GPU"], n.free["GPU"] - counts[n.node_id]) for n in nodes]
        found = choose(now, seats, ONE_GPU, pool, spread=spread)
        seats.append(Seat(pool, found or "", ONE_GPU))
    counts = Counter(seat.node_id for seat in seats if seat.node_id)
    assert all(counts[n.node_id] <= n.total["GPU"] for n in nodes)
    # Nobody waits while there is room.
    assert sum(counts.values()) == min(len(workers), sum(machines))


def test_needs_are_by_the_names_of_ray() -> None:
    assert needs_of(0, 2, "H100", {"rack": 1}) == {
        "GPU": 2,
        "accelerator_type:H100": 0.001,
        "rack": 1,
    }
    assert choose([node("1", 1)], [], needs_of(0, 0, None, {}), "decode", spread=False) == "1"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("1", 4)], ""),
        (
            [node("1", 2), node("2", 1)],
            WANTED + "none of 2 has that, the largest has 2 GPU and 16 CPU",
        ),
        (
            [node("1", 4, free=1), node("2", 8, free=3), node("3", 2)],
            WANTED + "2 of 3 could hold it, and the most free is 3 GPU and 16 CPU",
        ),
        (
            [],
            WANTED + "none of 0 has that, the largest has 0 GPU and 0 CPU",
        ),
    ],
)
def test_why_it_waits(nodes: list[Node], why: str) -> None:
    assert lack(nodes, needs_of(1, 4, None, {})) == why


def test_a_kind_that_nobody_has_is_named() -> None:
    why = lack([node("1", 4)], needs_of(0, 1, "H100", {}))
    assert why.startswith("waits for 1 GPU and an H100 on one node; none of 1 has that")


def test_a_wait_is_entered_and_ends() -> None:
    table = apply(Table(), WorkerPlaced(P, Role.PREFILL, 2, 0, 5.0))
    assert waits(table, {}, 6.0) == ()
    assert waits(table, {(P, 1): "late news"}, 6.0) == ()
    (event,) = waits(table, {(P, 2): "waits for 1 GPU"}, 6.0)
    assert event == WorkerProgressed(P, 2, "waits for 1 GPU", 6.0, waits=True)
    table = apply(table, event)
    (ended,) = waits(table, {}, 9.0)
    row = apply(table, ended).row(P)
    assert row is not None
    assert (row.waits, row.since, row.detail) == (False, 9.0, "starting its process")
