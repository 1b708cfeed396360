"""Where routers go on the nodes that are marked for them, by `router.resources`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from baton.errors import BatonError, Reason
from cluster.placing import Node, Seat, choose
from cluster.ray_nodes import Seating, draining, hard, nodes
from cluster.specs import ActorSpec

POOL = "router"


class RouterSeating(Seating):
    """A router has a place of its own; its successor shares it, because a port is handed over on
    one machine only. Ray is asked for no second place then, and the seat counts as taken until both
    are gone: Ray by itself would count it as free and put two routers there."""

    def place(self, name: str, spec: ActorSpec, make: Callable[..., Any]) -> Any:
        """As for workers; Ray's choice only where no node has a place. Raises BatonError NO_WORKER
        while all that Ray counts as free are taken: waiting in Ray would lead there."""
        with self._lock:
            self._forget_the_gone()
            going = draining()
            usable = [node for node in nodes() if node.node_id not in going]
            found = self._beside_its_predecessor(name, spec, usable)
            if found is not None:
                made = make(hard(found), resources={})
            else:
                found = self._of_its_own(spec, usable)
                made = make("SPREAD" if found is None else hard(found))
            self._seats[name] = Seat(spec.pool, found or "", spec.needs)
        return made

    def _beside_its_predecessor(
        self, name: str, spec: ActorSpec, usable: Collection[Node]
    ) -> str | None:
        """Where that is a node for routers; the first one may have begun before any was named."""
        kin = f"{name.rpartition(':')[0]}:"
        theirs = {seat.node_id for other, seat in self._seats.items() if other.startswith(kin)}
        marked = (node for node in usable if spec.resources.keys() <= node.total.keys())
        return next((node.node_id for node in marked if node.node_id in theirs), None)

    def _of_its_own(self, spec: ActorSpec, usable: Collection[Node]) -> str | None:
        found = choose(usable, self._seats.values(), spec.needs, spec.pool, spread=True)
        if found is None and choose(usable, (), spec.needs, spec.pool, spread=True) is not None:
            raise BatonError(Reason.NO_WORKER, "all places for routers that are there are taken")
        return found
