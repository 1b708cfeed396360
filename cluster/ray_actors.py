"""Plain classes as Ray actors: the one place that sets name, lifetime, concurrency, resources.

Actors are named, in the namespace of the cluster. On a Ray of our own they end with this process;
on a joined Ray they are detached, so that a restarted controller finds its workers again by name.
Ray never restarts them: supervision does. Ray's errors become Baton's here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId, WorkerId
from baton.messages import Role
from cluster.leaving import listening
from cluster.ports import Adopted, AdoptedRouter, Placement, Waiting
from cluster.processes import Process, end_for_certain, find, this_host
from cluster.ray_nodes import Seating, hard, node_now, only_here, what_for
from cluster.router_seats import POOL, RouterSeating
from cluster.specs import ActorSpec

_log = logging.getLogger(__name__)
_KILL_TIMEOUT_S = 5.0
_ADOPT_TIMEOUT_S = 10.0
_REACH_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 1.0
# Progress must be answered while a slow call runs, and nothing more.
_CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """An actor's process, and where its id means something."""

    process: Process
    host: str
    node: str
    """Ray's id of the machine."""


class RayHandle:
    """One actor. It is made by the factory, and whoever holds it has to kill it."""

    def __init__(self, actor: Any, name: str, where: Whereabouts) -> None:
        self._actor = actor
        self._name = name
        self._where = where

    @property
    def pid(self) -> int:
        """The actor's process."""
        return self._where.process.pid

    async def call(self, method: str, *args: object, timeout_s: float) -> Any:
        """What the method returned; errors as in `cluster.ports.Handle`."""
        return await _answer(getattr(self._actor, method).remote(*args), self._name, timeout_s)

    async def leave(self) -> None:
        """Ends the process the way Python ends, a few seconds at most, then as `kill` does."""
        with contextlib.suppress(BatonError, StartupError):
            await _answer(self._actor.__ray_terminate__.remote(), self._name, _KILL_TIMEOUT_S)
        await self.kill()

    async def kill(self, *engine: Process) -> bool:
        """Ends the processes and waits for that, a few seconds at most; see `cluster.ports`."""
        _ask_to_kill(self._actor, self._name)
        # Ray asks an actor's process to end itself, which a stopped one does not.
        certain = await _end_there(self._where, self._name, (self._where.process, *engine))
        await _await_end(self._actor, self._name)
        return certain


class RayActorFactory:
    """Starts workers and routers as actors; `worker` and `router` say what each of them is."""

    def __init__(
        self,
        namespace: str,
        *,
        detached: bool,
        worker: Callable[[Placement], ActorSpec],
        router: Callable[[RouterId, int], ActorSpec],
    ) -> None:
        self._namespace = namespace
        self._detached = detached
        self._worker = worker
        self._router = router
        self._workers = Seating(lambda: named_actors(namespace))
        self._routers = RouterSeating(lambda: named_actors(namespace))
        self._waiting: dict[tuple[WorkerId, int], str] = {}

    async def adopt(self) -> Sequence[Adopted | AdoptedRouter]:
        """The workers and routers that are there by name. Those that do not answer are ended, and
        so are those that still wait for room: they are asked for anew."""
        names = await asyncio.to_thread(named_actors, self._namespace)
        found = await asyncio.gather(*map(self._adopt, names))
        return [one for one in found if one is not None]

    async def worker(self, placement: Placement) -> RayHandle:
        """A new worker actor; waits until Ray has room for it and its class is built."""
        start = (placement.worker_id, placement.incarnation)
        try:
            return await self._start(_worker_name(placement), self._worker(placement), start)
        finally:
            self._waiting.pop(start, None)

    def waiting(self) -> Waiting:
        """The workers that Ray has no room for yet, and what they wait for."""
        return {start: why for start, why in self._waiting.items() if why}

    async def router(self, router_id: RouterId, incarnation: int) -> RayHandle:
        """A new router actor."""
        name = f"router:{router_id}:{incarnation}"
        return await self._start(name, self._router(router_id, incarnation))

    async def _start(
        self, name: str, spec: ActorSpec, start: tuple[WorkerId, int] | None = None
    ) -> RayHandle:
        from ray.exceptions import RayError

        # Exporting a class talks to Ray's control store, which may be far away.
        making = asyncio.get_running_loop().run_in_executor(None, self._create, name, spec)
        try:
            actor = await asyncio.shield(making)
        except (RayError, RuntimeError, ValueError) as error:
            raise BatonError(Reason.INTERNAL, f"{name}: {_cause(error)}") from error
        except asyncio.CancelledError:
            # The thread goes on, and nobody else would ever know of the actor.
            making.add_done_callback(lambda d: d.exception() or _ask_to_kill(d.result(), name))
            raise
        try:
            where = await self._until_there(actor, name, spec, start)
        except BaseException:
            await asyncio.shield(_kill(actor, name))
            raise
        if spec.pool:
            self._seating(spec).sits(name, spec, where.node)
        return RayHandle(actor, name, where)

    async def _until_there(
        self, actor: Any, name: str, spec: ActorSpec, start: tuple[WorkerId, int] | None
    ) -> Whereabouts:
        from ray.exceptions import RayError

        ref = actor.__ray_call__.remote(_own_whereabouts)
        there = asyncio.wrap_future(ref.future())
        # Whoever gives up leaves an error that nobody asks for.
        there.add_done_callback(lambda done: done.cancelled() or done.exception())
        while start and not (await asyncio.wait((there,), timeout=_LOOK_EVERY_S))[0]:
            try:
                self._waiting[start] = await asyncio.to_thread(what_for, actor, spec)
            except (RayError, RuntimeError, ValueError) as error:
                # Its last word stands: it is told again in a moment.
                _log.info("%s: Ray does not say what it waits for: %s", name, error)
        where: Whereabouts = await _answer(ref, name, None)
        return where

    async def _adopt(self, name: str) -> Adopted | AdoptedRouter | None:
        actor = await asyncio.to_thread(_by_name, name, self._namespace)
        if actor is None:
            return None
        try:
            ref = actor.__ray_call__.remote(_own_whereabouts)
            where = await _answer(ref, name, _ADOPT_TIMEOUT_S)
        except BatonError:
            found = None
        else:
            found = _parsed(name, RayHandle(actor, name, where))
        if found is None:
            await _kill(actor, name)
        elif isinstance(found, Adopted):
            self._workers.sits(name, self._worker(found.placement), where.node)
        else:
            self._routers.sits(name, self._router(found.router_id, found.incarnation), where.node)
        return found

    def _create(self, name: str, spec: ActorSpec) -> Any:
        import ray

        remote, options = ray.remote(listening(spec.cls)), self._options(name, spec)

        def make(strategy: Any, **other: Any) -> Any:
            told = {**options, **other, "scheduling_strategy": strategy}
            return remote.options(**told).remote(*spec.args)

        if spec.here:
            return make(only_here())
        if not spec.pool:
            return make("DEFAULT")
        return self._seating(spec).place(name, spec, make)

    def _seating(self, spec: ActorSpec) -> Seating:
        return self._routers if spec.pool == POOL else self._workers

    def _options(self, name: str, spec: ActorSpec) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached" if self._detached else None,
            "num_cpus": spec.cpus,
            "num_gpus": spec.gpus,
            "accelerator_type": spec.accelerator_type,
            "resources": dict(spec.resources),
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": _CONCURRENCY,
            "runtime_env": {"env_vars": dict(spec.env)} if spec.env else {},
        }


def named_actors(namespace: str) -> list[str]:
    """The names of the workers and routers that live in one namespace; others are not ours."""
    import ray

    every = ray.util.list_named_actors(all_namespaces=True)
    names = (item["name"] for item in every if item["namespace"] == namespace)
    return sorted(name for name in names if name.startswith(("worker:", "router:")))


async def end_cluster(namespace: str) -> list[str]:
    """Kills every actor of one cluster on the Ray that it joined; returns their names."""
    for name in (names := await asyncio.to_thread(named_actors, namespace)):
        actor = await asyncio.to_thread(_by_name, name, namespace)
        if actor is not None:
            await _kill(actor, name)
    return names


async def _answer(ref: Any, name: str, timeout_s: float | None) -> Any:
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        return await asyncio.wait_for(asyncio.wrap_future(ref.future()), timeout_s)
    except TimeoutError as error:
        message = f"{name} did not answer within {timeout_s} s"
        raise BatonError(Reason.DEADLINE_EXCEEDED, message) from error
    except RayTaskError as error:
        raise _raised(error, name) from error
    except RayActorError as error:
        raise BatonError(Reason.WORKER_LOST, f"{name} is gone: {_end_of(error)}") from error
    except RayError as error:
        raise BatonError(Reason.INTERNAL, f"{name}: {_cause(error)}") from error


def _raised(error: Any, name: str) -> BatonError | StartupError:
    cause = error.cause
    if isinstance(cause, BatonError | StartupError):
        return cause
    return BatonError(Reason.INTERNAL, f"{name}: {type(cause).__name__}: {_cause(cause)}")


def _cause(error: BaseException) -> str:
    # Ray appends tracebacks and advice; the last line that says something names the error.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _end_of(error: BaseException) -> str:
    # What happened stands between these two phrases, and a page of advice after them.
    detail = _cause(error).rpartition("Worker exit detail: ")[2]
    return detail.partition(" Some common causes")[0][:300]


async def _kill(actor: Any, name: str) -> None:
    if _ask_to_kill(actor, name):
        await _await_end(actor, name)


def _ask_to_kill(actor: Any, name: str) -> bool:
    import ray
    from ray.exceptions import RayError

    try:
        ray.kill(actor, no_restart=True)
    except (RayError, ValueError) as error:
        _log.warning("%s could not be killed: %s", name, _cause(error))
        return False
    return True


async def _await_end(actor: Any, name: str) -> None:
    try:
        await _answer(actor.__ray_ready__.remote(), name, _KILL_TIMEOUT_S)
    except BatonError as error:
        if error.reason is Reason.DEADLINE_EXCEEDED:
            _log.warning("%s did not end within %s s", name, _KILL_TIMEOUT_S)


async def _end_there(where: Whereabouts, name: str, processes: Sequence[Process]) -> bool:
    """`end_for_certain` on the machine of an actor; False if it cannot be reached."""
    import ray
    from ray.exceptions import RayError

    if where.node == ray.get_runtime_context().get_node_id():
        return await asyncio.to_thread(end_for_certain, where.host, processes)
    try:
        node = await asyncio.to_thread(node_now, where.node)
        task = _remotely(node).remote(where.host, processes)
        certain: bool = await _answer(task, name, _REACH_TIMEOUT_S)
    except (BatonError, StartupError, RayError, RuntimeError) as error:
        _log.warning("the machine of %s cannot be reached: %s", name, error)
        return False
    return certain


def _remotely(node: str) -> Any:
    """`end_for_certain` as a task on a machine."""
    import ray

    task = ray.remote(end_for_certain)
    return task.options(num_cpus=0, max_retries=0, scheduling_strategy=hard(node))


def _own_whereabouts(_self: object) -> Whereabouts:
    import ray

    process = find(os.getpid())
    assert process is not None
    return Whereabouts(process, this_host(), ray.get_runtime_context().get_node_id())


def _by_name(name: str, namespace: str) -> Any:
    import ray

    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def _worker_name(placement: Placement) -> str:
    return f"worker:{placement.worker_id}:{placement.incarnation}:{placement.core_index}"


def _parsed(name: str, handle: RayHandle) -> Adopted | AdoptedRouter | None:
    match name.split(":"):
        case ["worker", worker_id, incarnation, core]:
            role = Role(worker_id.partition("-")[0])
            placement = Placement(WorkerId(worker_id), role, int(incarnation), int(core))
            return Adopted(placement, handle)
        case ["router", router_id, incarnation]:
            return AdoptedRouter(RouterId(router_id), int(incarnation), handle)
    return None
