"""`baton serve`: checks, starts Ray and the cluster, waits for a signal, and cleans up.

Everything that can be refused is refused before anything starts. The first signal drains, the
second kills; either way no process, no shared memory and no state file stays behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId
from baton.log import configure_logging
from baton.settings import PoolSettings, Settings
from baton.settings.model import is_loopback
from baton.tasks import Tasks
from cluster.addresses import spans_machines
from cluster.controller import ClusterStatus, Controller
from cluster.plan import plan_of
from cluster.ports import ActorFactory, Placement
from cluster.ray_actors import RayActorFactory
from cluster.ray_nodes import check_accelerators, check_reach
from cluster.ray_runtime import (
    RayKeeper,
    RayOptions,
    RayRuntime,
    find_ray,
    remove_leftovers,
    start_or_join,
)
from cluster.router_seats import POOL as ROUTERS
from cluster.specs import ActorSpec
from deploy.model import resolved
from deploy.opening import check_files, refuse_second, warnings
from deploy.orders import LOOK_EVERY_S, Orders
from deploy.port import grpc_line, hold, hold_grpc, on_port
from deploy.rundir import Record, RunDir, RunState, run_dir, this_process
from deploy.scale import obey as obey_scale
from deploy.stopping import Stop, interruptible, on_signals, uninterrupted
from deploy.table import Screen

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Classes:
    """The actors' classes, and what the checks before the start found out."""

    worker: type
    router: type
    digest: str
    model: str
    device: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What one run of `serve` works with, fixed before anything is started."""

    settings: Settings
    classes: Classes
    home: RunDir
    screen: Screen
    began_s: float


def serve(settings: Settings, *, classes: Classes | None = None) -> int:
    """Serves until a signal comes; returns the exit code. Raises StartupError, BatonError.

    `classes` replaces the real workers and routers, which need vLLM.
    """
    began_s = time.monotonic()
    configure_logging(settings.log.level, settings.log.format, per_second=settings.log.per_second)
    check_files(settings)
    home = run_dir(settings.cluster.run_dir)
    home.prepare()
    refuse_second(earlier := home.read(settings.cluster.name))
    # On a Ray that goes on, the routers of a killed controller go on as well.
    shared = earlier is not None and not earlier.ray_owned
    with hold(settings, shared=shared) as port, hold_grpc(settings, shared=shared) as grpc:
        settings = on_port(settings, port, grpc)
        remove_leftovers(home.path)
        found = classes or real_classes(settings)
        launch = Launch(resolved(settings), found, home, Screen(), began_s)
        launch.screen.say(f"starting {found.model} on {found.device}")
        for line in warnings(launch.settings):
            launch.screen.say(f"warning: {line}")
        return _with_ray(launch)


def real_classes(settings: Settings) -> Classes:
    """Workers and routers on vLLM. Raises StartupError for what is certain to fail."""
    from deploy.model import model_path, served_name
    from deploy.router_process import RouterProcess
    from deploy.worker_process import WorkerProcess
    from engine import preflight

    machine = preflight.this_machine()
    alone = find_ray(settings.cluster.ray_address) is None
    found = preflight.check(settings, model_path(settings), machine, here=alone)
    if alone:
        preflight.check_memory(settings, found, machine.available_bytes)
    return Classes(WorkerProcess, RouterProcess, found.digest, served_name(settings), found.device)


def worker_spec(
    settings: Settings, classes: Classes, placement: Placement, *, joined: bool = False
) -> ActorSpec:
    """How one worker runs as an actor."""
    pool: PoolSettings = getattr(settings, placement.role.value)
    gpus = pool.gpus_per_worker
    if gpus is None:
        gpus = settings.engine.tensor_parallel_size if classes.device == "cuda" else 0
    args = (
        settings.model_dump(),
        placement.worker_id,
        placement.incarnation,
        placement.role.value,
        placement.core_index,
        classes.digest,
    )
    return ActorSpec(
        classes.worker,
        args,
        pool.cpus_per_worker,
        gpus,
        pool.accelerator_type,
        pool.resources,
        pool=placement.role.value,
        spread=pool.placement == "spread",
        # A Ray that is joined may get nodes later, where such an address means another machine.
        here=joined and not spans_machines(settings.cluster.bind_host),
    )


def router_spec(
    settings: Settings, classes: Classes, router_id: RouterId, *, joined: bool = False
) -> ActorSpec:
    """How one router runs as an actor."""
    router = settings.router
    return ActorSpec(
        classes.router,
        (settings.model_dump(), router_id, classes.digest),
        resources=router.resources,
        pool=ROUTERS if router.resources else "",
        spread=bool(router.resources),
        # Here the port is held, and here clients look for it unless machines are named.
        here=joined and (is_loopback(router.host) or not router.resources),
    )


def _with_ray(launch: Launch) -> int:
    settings = launch.settings
    record: Record | None = None
    runtime: RayRuntime | None = None
    failed = True
    try:
        with interruptible():
            runtime = start_or_join(_ray_options(launch))
        check_reach(settings.cluster.bind_host)
        check_accelerators(
            {
                "prefill.accelerator_type": settings.prefill.accelerator_type,
                "decode.accelerator_type": settings.decode.accelerator_type,
            }
        )
        record = Record(launch.home, _state(launch, runtime))
        code = asyncio.run(_run(launch, runtime, record))
        failed = code != 0
    finally:
        with uninterrupted():
            logs = launch.home.logs(settings.cluster.name) if failed else None
            if runtime is not None and runtime.shutdown(keep_logs_in=logs):
                launch.screen.say(f"logs of the processes: {logs}")
            remove_leftovers(launch.home.path)
            if record is not None:
                record.close()
    return code


async def _run(launch: Launch, runtime: RayRuntime, record: Record) -> int:
    watcher = _Watcher(launch, record)
    plan = plan_of(launch.settings, launch.classes.digest)
    keeper = RayKeeper(launch.settings.cluster.name)
    controller = Controller(_factory(launch, runtime), plan, watcher.show, keeper=keeper)
    async with Tasks("serve") as tasks:
        running = tasks.spawn(_quietly(controller), "run the cluster")
        orders = Orders(launch.home.orders(launch.settings.cluster.name))
        tasks.spawn(_obey(controller, orders), "orders", eternal=True)
        on_signals(Stop(controller.ask_to_stop, running.cancel, launch.screen.say).arrived)
        with launch.screen:
            await asyncio.wait((running,))
        await controller.kill()
        orders.close()
    if running.cancelled():
        launch.screen.say("killed")
        return 1
    error = running.result()
    if error is not None:
        raise error
    launch.screen.say("stopped")
    return 0


async def _quietly(controller: Controller) -> Exception | None:
    # An error of the start is the user's to read once, not a fault of the task.
    try:
        await controller.run()
    except (StartupError, BatonError) as error:
        return error
    return None


async def _obey(controller: Controller, orders: Orders) -> None:
    def obey(order: Mapping[str, Any]) -> Mapping[str, Any]:
        match order.get("do"):
            case "drain":
                return {"incarnation": controller.ask_to_drain(str(order["name"]))}
            case "scale":
                return obey_scale(controller.scaler, order)
        raise BatonError(Reason.UNSUPPORTED, f"nobody knows how to {order.get('do')!r}")

    while True:
        try:
            orders.take(obey)
        except OSError as error:
            _log.warning("an order could not be taken: %s", error)
        await asyncio.sleep(LOOK_EVERY_S)


class _Watcher:
    """Shows each status, keeps the state file, and says once that all is ready."""

    def __init__(self, launch: Launch, record: Record) -> None:
        self._launch = launch
        self._record = record
        self._announced = False

    def show(self, status: ClusterStatus) -> None:
        self._launch.screen.show(status)
        try:
            self._record.update(status.phase, status.url)
        except OSError as error:
            # A full disk; the state is written with the next change.
            _log.warning("the state file is not up to date: %s", error)
        if status.phase == "serving" and not self._announced:
            self._announced = True
            took_s = time.monotonic() - self._launch.began_s
            model = self._launch.classes.model
            self._launch.screen.say(grpc_line(self._launch.settings, status.url))
            self._launch.screen.say(f"ready: {status.url}/v1 (model {model}) in {took_s:.1f} s")


def _factory(launch: Launch, runtime: RayRuntime) -> ActorFactory:
    settings, classes, joined = launch.settings, launch.classes, not runtime.owned
    return RayActorFactory(
        settings.cluster.name,
        detached=joined,
        worker=lambda placement: worker_spec(settings, classes, placement, joined=joined),
        router=lambda router_id, _: router_spec(settings, classes, router_id, joined=joined),
    )


def _ray_options(launch: Launch) -> RayOptions:
    settings = launch.settings
    return RayOptions(
        address=settings.cluster.ray_address,
        namespace=settings.cluster.name,
        bind_host=settings.cluster.bind_host,
        run_dir=launch.home.path,
        object_store_mib=settings.cluster.object_store_mib,
        cpus=sum(number * pool.cpus_per_worker for pool, number in _all_workers(settings)),
        resources=_resources(settings),
        runtime_env=settings.cluster.runtime_env,
    )


def _all_workers(settings: Settings) -> list[tuple[PoolSettings, int]]:
    """Each pool, and how many workers it may ever have."""
    scaling = settings.scaling
    most = (scaling.prefill_max_workers, scaling.decode_max_workers)
    pools = (settings.prefill, settings.decode)
    return [(pool, max(pool.workers, number)) for pool, number in zip(pools, most, strict=True)]


def _resources(settings: Settings) -> dict[str, float]:
    takers = [(settings.router.resources, settings.router.routers)]
    takers += [(pool.resources, number) for pool, number in _all_workers(settings)]
    names = {name for resources, _ in takers for name in resources}
    return {name: sum(number * each.get(name, 0.0) for each, number in takers) for name in names}


def _state(launch: Launch, runtime: RayRuntime) -> RunState:
    process = this_process()
    return RunState(
        cluster=launch.settings.cluster.name,
        pid=process.pid,
        pid_started=process.started,
        started_at=time.time(),
        ray_address=runtime.address,
        ray_owned=runtime.owned,
        model=launch.classes.model,
    )
