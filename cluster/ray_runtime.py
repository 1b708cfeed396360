"""Ray, started or joined, and ended without leftovers.

A Ray of our own listens on loopback alone, lives in a temporary folder of its own, asks for a
random token, and dies with this process even when this process is killed: its processes ask the
kernel for that. A Ray that somebody else started is joined and left running.

Ray binds to loopback only where it believes that clusters are impossible, which on Linux a
variable has to tell it; `_CONFINED` does. With another `bind_host` its processes listen on every
interface, guarded by the token.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from baton.errors import StartupError, StartupFault
from baton.scratch import orphaned
from baton.settings.model import is_loopback
from cluster import shared_memory
from cluster.addresses import spans_machines
from cluster.guard import Guard
from cluster.processes import Process, descendants, is_alive, kill_all

_log = logging.getLogger(__name__)

# Ray's longest socket path is the folder, "/session_<date>_<time>_<µs>_<pid>/sockets/plasma_store"
# and Linux allows 107 bytes.
_FOLDER_BYTES_MAX = 107 - len("/session_2026-01-31_12-00-00_000000_4194304/sockets/plasma_store")
_GONE_TIMEOUT_S = 10.0
_JOIN_TIMEOUT_S = 2.0

_QUIET: Mapping[str, str] = MappingProxyType(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
)
_ADDRESS_FILE = "ray/ray_current_cluster"
_CONFINED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which Ray, and what a Ray of our own may use."""

    address: str
    """'local', 'auto', or where a Ray runs."""
    namespace: str
    bind_host: str
    run_dir: Path
    object_store_mib: int
    cpus: float
    """Logical CPUs that all actors together ask for."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What else they ask for, which a Ray of our own then has."""
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    """Ray's runtime environment of all actors."""


class RayRuntime:
    """A connection to Ray. Make it with `start_or_join`; `shutdown` it in any case."""

    def __init__(self, address: str, folder: Path | None) -> None:
        self.address = address
        self._folder = folder
        self._guard = None if folder is None else Guard(folder)
        self._since = time.time()
        # Whatever else this process has started is not Ray's, and not ours to end.
        self._others = set(descendants(os.getpid()))

    @property
    def owned(self) -> bool:
        """Whether this process started this Ray, and ends it."""
        return self._folder is not None

    def shutdown(self, keep_logs_in: Path | None = None) -> bool:
        """Leaves Ray; ends it, with every process and file of it, if it is ours.

        `keep_logs_in` gets the logs of the actors, in place of older ones; whether there are any.
        May be called again.
        """
        import ray

        mine = self._processes()
        shared = shared_memory.used_by(process.pid for process in mine)
        ray.shutdown()
        if self._folder is None or self._guard is None:
            return False
        _end(mine)
        shared_memory.remove_unused(shared | shared_memory.semaphores_since(self._since))
        kept = keep_logs_in is not None and _keep_logs(self._folder, keep_logs_in)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._guard.dismiss()
        return kept

    def watch(self) -> None:
        """Has the processes of this Ray ended by a guard, should this process be killed."""
        if self._guard is not None:
            self._guard.watch(self._processes())

    def _processes(self) -> list[Process]:
        if self._guard is None:
            return []
        return [found for found in descendants(os.getpid()) if found not in self._others]


class RayKeeper:
    """Implements `cluster.scaler.Keeper` in Ray's own store, which outlives a controller and has no
    other door than this one."""

    def __init__(self, namespace: str) -> None:
        self._key = f"baton:{namespace}:scaling"

    def load(self) -> str | None:
        from ray.experimental import internal_kv

        found: bytes | None = internal_kv._internal_kv_get(self._key)  # noqa: SLF001
        return None if found is None else found.decode()

    def save(self, text: str) -> None:
        from ray.exceptions import RayError
        from ray.experimental import internal_kv

        try:
            internal_kv._internal_kv_put(self._key, text)  # noqa: SLF001
        except RayError as error:
            _log.warning("what was decided is not kept: %s", _one_line(error))


def start_or_join(options: RayOptions) -> RayRuntime:
    """Connects this process to Ray.

    'auto' joins a Ray that `ray start` or RAY_ADDRESS names, and never one that some program
    started for itself. Raises StartupError (RAY_UNAVAILABLE).
    """
    address = find_ray(options.address)
    return _start(options) if address is None else _join(address, options)


def find_ray(address: str) -> str | None:
    """The Ray to join for this setting, None if one has to be started."""
    if address == "local":
        return None
    return _found() if address == "auto" else address


def remove_leftovers(run_dir: Path) -> None:
    """Removes what killed processes, and their Ray, left in the file system."""
    for path in orphaned(is_alive):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in run_dir.glob("ray-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdecimal() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _start(options: RayOptions) -> RayRuntime:
    folder = _new_folder(options.run_dir)
    runtime = RayRuntime("local", folder)
    try:
        _init_local(options, folder)
        runtime.watch()
    except BaseException as error:
        runtime.shutdown()
        # Ray raises what it finds: RuntimeError, ValueError, OSError, its own errors.
        if not isinstance(error, Exception) or isinstance(error, StartupError):
            raise
        raise _unavailable(f"Ray did not start: {_one_line(error)}") from error
    return runtime


def _init_local(options: RayOptions, folder: Path) -> None:
    confined = is_loopback(options.bind_host)
    _set_environment(confined=confined)
    import ray
    from ray._private import ray_constants

    # Read once when Ray is first imported, which may have been before this call.
    ray_constants.ENABLE_RAY_CLUSTER = not confined
    ray.init(
        address="local",
        namespace=options.namespace,
        num_cpus=max(1, round(options.cpus + 0.5)),
        resources=dict(options.resources),
        include_dashboard=False,
        object_store_memory=options.object_store_mib * 2**20,
        _node_ip_address=None if spans_machines(options.bind_host) else options.bind_host,
        _temp_dir=str(folder),
        runtime_env=_environment(options),
        **_silent(),
    )
    node_ip = ray.util.get_node_ip_address()
    if confined and not is_loopback(node_ip):
        raise _unavailable(f"Ray would listen on {node_ip}, not on loopback alone")


def _join(address: str, options: RayOptions) -> RayRuntime:
    import ray

    environment = _environment(options)
    try:
        ray.init(address=address, namespace=options.namespace, runtime_env=environment, **_silent())
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unavailable(f"no Ray to join at {address}: {_one_line(error)}") from error
    return RayRuntime(address, None)


def _environment(options: RayOptions) -> dict[str, Any] | None:
    from ray.runtime_env import RuntimeEnv

    try:
        return dict(RuntimeEnv(**options.runtime_env)) or None
    except (TypeError, ValueError) as error:
        raise StartupError(
            StartupFault.SETTINGS_INVALID, f"cluster.runtime_env: {_one_line(error)}"
        ) from error


def _silent() -> dict[str, Any]:
    from ray._private import worker

    # Ray prints about dead actors on standard output whatever it is told; supervision reports them.
    worker.print_to_stdstream = _drop
    return {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}


def _drop(data: Mapping[str, object], **_options: object) -> None:
    _log.debug("ray: %s", data.get("lines"))


def _set_environment(*, confined: bool) -> None:
    # Ray has no other way in. Its processes inherit all of it.
    environ = os.environ  # noqa: TID251
    for name, value in _QUIET.items():
        environ.setdefault(name, value)
    environ[_CONFINED] = "0" if confined else "1"
    if "ray._raylet" not in sys.modules:
        # A token of our own keeps Ray from writing one into the home folder. Ray reads the mode
        # when it is first imported: in a process that has done so its servers must not insist.
        environ["RAY_AUTH_MODE"] = "token"
        environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    logging.getLogger("ray").setLevel(logging.ERROR)


def _found() -> str | None:
    named = os.environ.get("RAY_ADDRESS")  # noqa: TID251
    if named:
        return named
    # What `ray start` writes. Read by hand: importing Ray settles its authentication for good, and
    # a Ray of our own needs it settled otherwise than a Ray to join.
    file = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / _ADDRESS_FILE  # noqa: TID251
    with contextlib.suppress(OSError):
        if file.stat().st_uid != os.getuid():
            return None  # Another user's; actors there would run as that user.
        address = file.read_text(encoding="utf-8").strip()
        return address if address and _answers(address) else None
    return None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    # The file that `ray start` writes outlives a Ray that was killed.
    with contextlib.suppress(OSError, ValueError, OverflowError):
        socket.create_connection((host, int(port)), timeout=_JOIN_TIMEOUT_S).close()
        return True
    return False


def _new_folder(run_dir: Path) -> Path:
    prefix = f"ray-{os.getpid()}-"
    for parent in (run_dir, Path(tempfile.gettempdir())):
        if len(os.fsencode(parent / prefix)) + 8 <= _FOLDER_BYTES_MAX:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    raise StartupError(
        StartupFault.SETTINGS_INVALID,
        f"the path {run_dir} is too long for Ray's sockets",
        hint=f"Set cluster.run_dir to a path of at most {_FOLDER_BYTES_MAX - 24} bytes.",
    )


def _end(processes: list[Process]) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in kill_all(processes):
        _log.warning("had to kill process %d, which outlived Ray", process.pid)


def _keep_logs(folder: Path, target: Path) -> bool:
    found = (folder.glob(f"session_2*/logs/worker-*.{end}") for end in ("out", "err"))
    logs = [log for log in chain.from_iterable(found) if log.stat().st_size]
    if not logs:
        return False
    shutil.rmtree(target, ignore_errors=True)
    try:
        target.mkdir(parents=True)
        for log in logs:
            shutil.copy(log, target)
    except OSError as error:
        _log.warning("logs are not kept: %s", error)
        return False
    return True


def _unavailable(message: str) -> StartupError:
    return StartupError(StartupFault.RAY_UNAVAILABLE, message)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
