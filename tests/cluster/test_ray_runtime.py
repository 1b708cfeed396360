"""A real local Ray with tiny actors: lifetimes, errors, kill -9, and what is left afterwards."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId, WorkerId
from baton.messages import Role, WorkerState
from cluster import ray_actors, ray_nodes
from cluster.controller import ClusterStatus, Controller
from cluster.plan import Plan
from cluster.ports import Adopted, AdoptedRouter, Placement
from cluster.processes import Process, descendants, find, is_alive
from cluster.ray_actors import RayActorFactory, RayHandle, end_cluster
from cluster.ray_runtime import RayKeeper, RayOptions, RayRuntime, start_or_join
from cluster.specs import ActorSpec
from cluster.supervision import Limits, Wanted
from deploy.rundir import RunDir
from tests.cluster.tiny import TinyRouter, TinyWorker
from tests.unit.cluster.samples import DIGEST

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
# Not as __main__, so that Ray finds the classes again by their module.
CODE = "import sys; from tests.cluster.tiny import main; sys.exit(main(sys.argv[1]))"
ROOT = Path(__file__).parents[2]
P0 = Placement(WorkerId("prefill-0"), Role.PREFILL, 1, 0)


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*")}


def eventually(done: Callable[[], bool], timeout_s: float, what: str) -> None:
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[RayRuntime]:
    memory = shared_memory()
    children = set(descendants(os.getpid()))
    runtime = start_or_join(RayOptions("local", "test", "127.0.0.1", folder, 75, 4, {"node": 8}))
    yield runtime
    (earlier := folder / "logs" / "of an earlier failure").mkdir(parents=True)
    assert runtime.shutdown(keep_logs_in=folder / "logs")
    assert not runtime.shutdown()
    assert not earlier.exists()
    assert set(descendants(os.getpid())) <= children
    assert shared_memory() <= memory
    assert not list(folder.glob("ray-*"))


def factory(namespace: str = "test", *, detached: bool = False) -> RayActorFactory:
    def worker(p: Placement) -> ActorSpec:
        args = ({}, p.worker_id, p.incarnation, p.role.value, p.core_index, DIGEST)
        return ActorSpec(
            TinyWorker,
            args,
            1,
            resources={"node": 1},
            pool=p.role.value,
            spread=True,
            env={"TINY": p.worker_id},
        )

    def router(router_id: RouterId, _incarnation: int) -> ActorSpec:
        return ActorSpec(TinyRouter, ({}, router_id, DIGEST))

    return RayActorFactory(namespace, detached=detached, worker=worker, router=router)


async def test_calls_and_their_errors(runtime: RayRuntime) -> None:
    handle = await factory().worker(P0)
    try:
        assert (await handle.call("progress", timeout_s=10)).ready.worker_id == "prefill-0"
        assert await handle.call("env", "TINY", timeout_s=10) == "prefill-0"
        assert await handle.call("pids", timeout_s=10) == [handle.pid]
        await raises(handle.call("refuse", timeout_s=10), Reason.WORKER_FULL, retry_after_s=2.0)
        await raises(handle.call("break_down", timeout_s=10), Reason.INTERNAL)
        await raises(handle.call("hang", timeout_s=0.2), Reason.DEADLINE_EXCEEDED)
        os.kill(handle.pid, signal.SIGKILL)
        await raises(handle.call("progress", timeout_s=20), Reason.WORKER_LOST)
    finally:
        await handle.kill()
    assert not is_alive(handle.pid)


async def test_a_stopped_process_and_its_engine_are_killed_for_certain(runtime: RayRuntime) -> None:
    handle = await factory().worker(P0)
    # An engine that notices nothing, not even that its worker is gone.
    sleeper = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        engine = find(sleeper.pid)
        assert engine is not None
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.kill(handle.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert await handle.kill(engine)
        assert time.monotonic() - began < 4
        assert not is_alive(handle.pid)
        assert await sleeper.wait() == -signal.SIGKILL
        assert await handle.kill(engine)
    finally:
        if sleeper.returncode is None:
            sleeper.kill()


async def test_an_end_is_certain_on_its_own_machine_only(runtime: RayRuntime) -> None:
    handle = await factory().worker(P0)
    elsewhere = RayHandle(handle._actor, "elsewhere", replace(handle._where, host="another"))
    assert not await elsewhere.kill()
    unreachable = RayHandle(handle._actor, "unreachable", replace(handle._where, node="0" * 56))
    assert not await unreachable.kill()
    assert await handle.kill()
    # As it runs on a machine that is not the controller's.
    task = ray_actors._remotely(handle._where.node)
    assert await ray_actors._answer(task.remote(handle._where.host, []), "there", 30)


async def raises(call, reason: Reason, retry_after_s: float | None = None) -> None:
    with pytest.raises(BatonError) as caught:
        await call
    assert caught.value.reason is reason, caught.value
    assert caught.value.retry_after_s == retry_after_s


async def test_a_signal_asks_an_actor_to_leave_and_another_ends_it(runtime: RayRuntime) -> None:
    for handle in (await factory().worker(P0), await factory().router(RouterId("router-0"), 1)):
        assert not (await handle.call("progress", timeout_s=10)).leaving
        os.kill(handle.pid, signal.SIGTERM)
        await asyncio.sleep(1)
        # It is there for as long as it takes, unless somebody insists.
        assert (await handle.call("progress", timeout_s=10)).leaving
        os.kill(handle.pid, signal.SIGTERM)
        eventually(lambda pid=handle.pid: not is_alive(pid), 2, "a second signal ends it")
        await handle.kill()


async def test_ctrl_c_does_not_reach_the_workers(runtime: RayRuntime) -> None:
    handle = await factory().worker(P0)
    group, _ = await handle.call("groups", timeout_s=10)
    assert group != os.getpgid(0)
    await handle.kill()


async def test_nothing_listens_beyond_loopback(runtime: RayRuntime) -> None:
    handle = await factory().worker(P0)
    pids = {os.getpid(), *(process.pid for process in descendants(os.getpid()))}
    found = listening(pids)
    assert found, "Ray has to listen somewhere"
    assert {address for _, address in found if not address.startswith(("127.", "::1"))} == set()
    await handle.kill()


def listening(pids: set[int]) -> set[tuple[int, str]]:
    inodes = {inode: pid for pid in pids for inode in sockets_of(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add((inodes[fields[9]], address_of(fields[1].partition(":")[0])))
    return found


def sockets_of(pid: int) -> set[str]:
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def address_of(text: str) -> str:
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    return socket.inet_ntop(socket.AF_INET6, raw).removeprefix("::ffff:")


async def test_a_killed_actor_is_replaced(runtime: RayRuntime) -> None:
    shown: list[ClusterStatus] = []
    limits = Limits(60.0, 0.1, 1.0)
    plan = Plan(Wanted(1, 1), 1, limits, DIGEST, health_interval_s=0.2, drain_timeout_s=5.0)
    controller = Controller(factory(), plan, shown.append)

    async def until(done: Callable[[], bool]) -> None:
        for _ in range(600):
            if shown and done():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(controller.crew.table)

    run = asyncio.ensure_future(controller.run())

    try:
        await until(lambda: shown[-1].phase == "serving")
        victim = controller.crew.handle(WorkerId("decode-0"))
        assert victim is not None
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: shown[-1].phase == "degraded")
        await until(lambda: shown[-1].phase == "serving")
        row = controller.crew.table.row(WorkerId("decode-0"))
        assert row is not None
        assert (row.incarnation, row.state) == (2, WorkerState.READY)
        door = controller.fronts.handle(RouterId("router-0"))
        assert door is not None
        for _ in range(100):
            if (await door.call("status", timeout_s=10))["ready"] == 1:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the router was never told of the new worker")
        controller.ask_to_stop()
        await run
        assert shown[-1].phase == "stopped"
    finally:
        await controller.kill()


async def test_detached_workers_are_found_again(runtime: RayRuntime) -> None:
    first = factory("kept", detached=True)
    handle = await first.worker(replace(P0, incarnation=3, core_index=1))
    await first.router(RouterId("router-0"), 1)
    router, worker = await factory("kept", detached=True).adopt()
    assert isinstance(worker, Adopted)
    assert worker.placement == replace(P0, incarnation=3, core_index=1)
    assert worker.handle.pid == handle.pid
    assert router == AdoptedRouter(RouterId("router-0"), 1, router.handle)
    assert await end_cluster("kept") == ["router:router-0:1", "worker:prefill-0:3:1"]
    eventually(lambda: not is_alive(handle.pid), 10, "the detached worker outlived its end")


def test_unknown_accelerators_are_refused_by_the_name_of_the_setting(runtime: RayRuntime) -> None:
    ray_nodes.check_accelerators(
        {"prefill.accelerator_type": "H200", "decode.accelerator_type": None}
    )
    with pytest.raises(StartupError, match=r"decode\.accelerator_type is 'H20O'") as caught:
        ray_nodes.check_accelerators({"decode.accelerator_type": "H20O"})
    assert "H200" in caught.value.hint


def test_what_is_kept_is_there_for_the_next(runtime: RayRuntime) -> None:
    RayKeeper("one").save("first")
    RayKeeper("one").save("second")
    assert [RayKeeper(name).load() for name in ("one", "other")] == ["second", None]


# --- a process of its own -------------------------------------------------------------------------


class Serve:
    """`baton serve` with tiny actors in a process group of its own."""

    def __init__(self, run_dir: Path) -> None:
        self.home = RunDir(run_dir)
        self.output = run_dir.parent / f"{run_dir.name}.log"
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, str(run_dir)],
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.family: list[Process] = []

    def wait_ready(self) -> None:
        eventually(lambda: "ready: " in self.text() or self.ended(), 90, self.text())
        assert not self.ended(), self.text()
        self.family = descendants(self.process.pid)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def text(self) -> str:
        return self.output.read_text()

    def gone(self) -> bool:
        return not any(process.alive() for process in self.family)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serve]:
    memory = shared_memory()
    serve = Serve(tmp_path / "run")
    try:
        serve.wait_ready()
        yield serve
    finally:
        if not serve.ended():
            serve.process.kill()
            serve.process.wait()
    eventually(serve.gone, 15, "processes outlived their driver")
    assert shared_memory() <= memory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(serving: Serve, number: int) -> None:
    state = serving.home.read("baton")
    assert state is not None
    assert state.phase == "serving"
    # To the whole group, as a terminal does it.
    os.killpg(serving.process.pid, number) if number == signal.SIGINT else os.kill(
        serving.process.pid, number
    )
    assert serving.process.wait(timeout=60) == 0, serving.text()
    assert "stopped" in serving.text()
    assert serving.gone()
    assert serving.home.read("baton") is None
    assert not list(serving.home.path.glob("ray-*"))


def test_a_second_signal_kills(serving: Serve) -> None:
    for handle in serving.family:
        if b"TinyWorker" in Path(f"/proc/{handle.pid}/cmdline").read_bytes():
            os.kill(handle.pid, signal.SIGSTOP)
    os.kill(serving.process.pid, signal.SIGINT)
    time.sleep(1)
    os.kill(serving.process.pid, signal.SIGINT)
    assert serving.process.wait(timeout=40) == 1, serving.text()
    assert serving.gone()
    assert serving.home.read("baton") is None


def test_a_killed_driver_takes_everything_along(serving: Serve) -> None:
    serving.process.kill()
    serving.process.wait()
    eventually(serving.gone, 15, "processes outlived their driver")
    state = serving.home.read("baton")
    assert state is not None
    assert not state.running()
