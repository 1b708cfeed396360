"""Which node a worker goes to, and what it waits for while none has room. Pure.

A worker is one Ray actor, and an actor lives on one node: so do all devices of one engine. What is
left to choose is the node. Ray's own strategies do not say where the pool's other workers are, and
its default fills a node to half and then evens out; so the node is chosen here. Only while nobody
has room the choice is Ray's, because an actor that waits is what its autoscaler brings nodes for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from baton.messages import WorkerState
from cluster.membership import Event, Table, WorkerProgressed
from cluster.ports import Waiting

Amounts = Mapping[str, float]
"""Ray's resources by name, such as CPU and GPU."""

_NOTHING: Amounts = MappingProxyType({})
# Ray counts in ten thousandths.
_TINY = 1e-5
_KIND = "accelerator_type:"
_PLACED = "starting its process"


@dataclass(frozen=True, slots=True)
class Node:
    """One living node of Ray."""

    node_id: str
    address: str
    total: Amounts
    free: Amounts


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one worker is, or is about to be."""

    pool: str
    node_id: str = ""
    """Empty while it waits for room."""
    needs: Amounts = field(default_factory=lambda: _NOTHING)
    """What it takes there."""


def choose(
    nodes: Iterable[Node], seats: Collection[Seat], needs: Amounts, pool: str, *, spread: bool
) -> str | None:
    """The id of the node for one more worker of a pool; None if none has room.

    `spread`: where the fewest of its pool are, then where most is left. Else where the most workers
    are, of either pool, because what they hand over stays on the machine; then where least is left.
    """
    rooms = [node for node in _with_seats(nodes, seats) if _holds(node.free, needs)]
    if not rooms:
        return None
    mates = [seat.node_id for seat in seats if seat.pool == pool or not spread]

    def order(node: Node) -> tuple[int, float, str]:
        number, left = mates.count(node.node_id), _left(node, needs)
        return (number, -left, node.node_id) if spread else (-number, left, node.node_id)

    return min(rooms, key=order).node_id


def lack(nodes: Collection[Node], needs: Amounts) -> str:
    """Why a worker waits, for people; empty if some node has room for it."""
    if any(_holds(node.free, needs) for node in nodes):
        return ""
    wanted = f"waits for {_said(needs)} on one node"
    able = [node for node in nodes if _holds(node.total, needs)]
    if not able:
        return f"{wanted}; none of {len(nodes)} has that, the largest has {_best(nodes, needs)}"
    most = _said(_most((node.free for node in able), needs))
    return f"{wanted}; {len(able)} of {len(nodes)} could hold it, and the most free is {most}"


def waits(table: Table, waiting: Waiting, now: float) -> tuple[Event, ...]:
    """What to enter for the workers that wait for room, and for those that wait no more."""
    starting = (row for row in table.rows if row.state is WorkerState.STARTING)
    found = ((row, waiting.get((row.worker_id, row.incarnation), "")) for row in starting)
    return tuple(
        WorkerProgressed(row.worker_id, row.incarnation, why or _PLACED, now, waits=bool(why))
        for row, why in found
        if why or row.waits
    )


def needs_of(
    cpus: float, gpus: float, accelerator_type: str | None, resources: Amounts
) -> dict[str, float]:
    """What one worker takes from its node."""
    kind = {} if accelerator_type is None else {f"{_KIND}{accelerator_type}": 0.001}
    everything = {"GPU": gpus, "CPU": cpus, **kind, **resources}
    return {name: amount for name, amount in everything.items() if amount > 0}


def _with_seats(nodes: Iterable[Node], seats: Collection[Seat]) -> list[Node]:
    """What is free by Ray's count and by ours: Ray's comes late, and ours knows of nobody else.
    Where both were wrong, Ray puts the actor on another node."""
    by_node: dict[str, list[Seat]] = {}
    for seat in seats:
        by_node.setdefault(seat.node_id, []).append(seat)
    return [replace(node, free=_free(node, by_node.get(node.node_id, []))) for node in nodes]


def _free(node: Node, seats: Collection[Seat]) -> Amounts:
    taken = {name: sum(seat.needs.get(name, 0) for seat in seats) for name in node.free}
    return {
        name: min(amount, node.total.get(name, 0) - taken[name])
        for name, amount in node.free.items()
    }


def _holds(amounts: Amounts, needs: Amounts) -> bool:
    return all(amounts.get(name, 0) + _TINY >= amount for name, amount in needs.items())


def _left(node: Node, needs: Amounts) -> float:
    """Which share of what is needed stays free beside it, the scarcest counts."""
    shares = ((node.free[name] - amount) / node.total[name] for name, amount in needs.items())
    return min(shares, default=0.0)


def _most(amounts: Iterable[Amounts], needs: Amounts) -> Amounts:
    """What the node has that comes closest; GPUs count before CPUs."""
    found = max(amounts, key=lambda a: [a.get(name, 0) for name in needs], default=_NOTHING)
    return {name: found.get(name, 0) for name in needs}


def _best(nodes: Collection[Node], needs: Amounts) -> str:
    return _said(_most((node.total for node in nodes), needs))


def _said(amounts: Amounts) -> str:
    return " and ".join(
        f"{amount:g} {name}" if not name.startswith(_KIND) else f"an {name.removeprefix(_KIND)}"
        for name, amount in amounts.items()
    )
