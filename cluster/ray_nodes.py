"""Ray's nodes: what they have, where they are, and which of them a worker is sent to."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from baton.errors import StartupError, StartupFault
from cluster.addresses import spans_machines
from cluster.placing import Node, Seat, choose, lack
from cluster.specs import ActorSpec


class Seating:
    """Knows where the workers of one cluster are, and seats the next, one at a time."""

    def __init__(self, names: Callable[[], list[str]]) -> None:
        """`names`: of the actors that live or wait."""
        self._names = names
        self._seats: dict[str, Seat] = {}
        self._lock = threading.Lock()

    def place(self, name: str, spec: ActorSpec, make: Callable[..., Any]) -> Any:
        """What `make` made of Ray's scheduling strategy for one more worker."""
        with self._lock:
            self._forget_the_gone()
            seats = self._seats.values()
            node_id = choose(nodes(), seats, spec.needs, spec.pool, spread=spec.spread)
            made = make(_strategy(node_id, spread=spec.spread))
            self._seats[name] = Seat(spec.pool, node_id or "", spec.needs)
        return made

    def sits(self, name: str, spec: ActorSpec, node_id: str) -> None:
        """Where Ray put it in the end, which need not be where it was sent."""
        with self._lock:
            self._seats[name] = Seat(spec.pool, node_id, spec.needs)

    def _forget_the_gone(self) -> None:
        living = set(self._names())
        self._seats = {name: seat for name, seat in self._seats.items() if name in living}


def nodes() -> tuple[Node, ...]:
    """Those that live."""
    import ray
    from ray._private import state

    free = state.available_resources_per_node()
    return tuple(
        Node(
            found["NodeID"],
            found["NodeManagerAddress"],
            found["Resources"],
            free.get(found["NodeID"], {}),
        )
        for found in ray.nodes()
        if found["Alive"]
    )


def draining() -> set[str]:
    """The nodes where Ray places nothing more."""
    from ray._private import state

    return set(state.state.get_draining_nodes())


def leaving_here() -> bool:
    """Whether the node of this process is one of them; False where that cannot be known."""
    import ray

    if not ray.is_initialized():
        return False
    try:
        return ray.get_runtime_context().get_node_id() in draining()
    except ray.exceptions.RayError:
        return False


def own_address() -> str:
    """Where this machine's node is reached by the others."""
    import ray

    # Not what this process takes for its address: that is a guess where there are several.
    here = ray.get_runtime_context().get_node_id()
    return next(node.address for node in nodes() if node.node_id == here)


def node_now(node_id: str) -> str:
    """The node that is now where this one was: a machine that Ray gave up comes back under another
    id. This one's own id where there is none."""
    import ray

    known = {node["NodeID"]: node for node in ray.nodes()}
    before = known.get(node_id)
    if before is None or before["Alive"]:
        return node_id
    here = (n for n in known.values() if n["NodeManagerAddress"] == before["NodeManagerAddress"])
    return next((str(node["NodeID"]) for node in here if node["Alive"]), node_id)


def only_here() -> Any:
    """The strategy for an actor that is of use on this machine alone."""
    import ray

    return hard(ray.get_runtime_context().get_node_id())


def hard(node_id: str) -> Any:
    """The strategy for an actor that is to be on this node or nowhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def what_for(actor: Any, spec: ActorSpec) -> str:
    """Why an actor that was asked for is not there yet; empty if it has its place."""
    import ray
    from ray._private import state

    told = state.actors(actor._actor_id.hex())  # noqa: SLF001
    # The node is named before the actor has a process there; that process's address is not.
    placed = told.get("Address", {}).get("IPAddress")
    here = ray.get_runtime_context().get_node_id()
    usable = [node for node in nodes() if not spec.here or node.node_id == here]
    return "" if placed else lack(usable, spec.needs)


def check_reach(bind_host: str) -> None:
    """Refuses an address that makes no sense on every node of this Ray.

    Raises StartupError SETTINGS_INVALID, with the name of the setting.
    """
    others = sorted({node.address for node in nodes()} - {own_address()})
    if others and not spans_machines(bind_host):
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"cluster.bind_host is {bind_host!r}, but this Ray has nodes elsewhere, such as "
            f"{others[0]}: workers there could not listen there, or not be reached",
            hint="Set cluster.bind_host to 'node': each worker listens on its own node's address.",
        )


def check_accelerators(wanted: Mapping[str, str | None]) -> None:
    """Refuses accelerator types that neither Ray knows nor a node of it has, by setting.

    Call it once Ray is there. Raises StartupError SETTINGS_INVALID: an actor that asks for one
    would wait for ever.
    """
    import ray
    from ray.util.accelerators import accelerators

    known = {value for name, value in vars(accelerators).items() if name.isupper()}
    known |= {name.partition(":")[2] for name in ray.cluster_resources() if ":" in name}
    for setting, name in wanted.items():
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.3)
            raise StartupError(
                StartupFault.SETTINGS_INVALID,
                f"{setting} is {name!r}, which Ray does not know",
                hint=f"Near to it: {', '.join(near)}." if near else "",
            )


def _strategy(node_id: str | None, *, spread: bool) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if node_id is None:
        return "SPREAD" if spread else "DEFAULT"
    # Somebody else may have been quicker: then Ray finds another node.
    return NodeAffinitySchedulingStrategy(node_id, soft=True, _spill_on_unavailable=True)
