"""A Ray of several hosts, and Baton on it: Ray's head and the router are on the first host."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.hosts_net import Host
from benchmarks.hosts_result import Patience
from benchmarks.served import Served
from cluster.processes import descendants

PORT = 8000
_RAY_PORT = 6379
_READY_S = 240.0
_STOP_S = 45.0
_RAY = Path(sys.executable).with_name("ray")
OPTIONS: Mapping[str, object] = {
    "cluster.bind_host": "node",
    "cluster.restart_backoff_s": 0.5,
    "router.host": "0.0.0.0",  # noqa: S104 - of a host on a switch of our own
    "router.port": PORT,
    "prefill.resources": {"prefill": 1},
    "decode.resources": {"decode": 1},
    "model.dtype": "float32",
    "model.max_model_len_tokens": 2048,
    "engine.block_size_tokens": 32,
    "engine.max_batched_tokens": 128,
    "engine.max_running_requests": 64,
    "engine.kv_cache_gib": 0.25,
    "kv_transfer.verify": "full",
    # It keeps decode from computing long prompts while there is prefill.
    "slo.tpot_s": 0.06,
    "admission.shed_at": 0.0,
}
"""For three engines on two cores."""


@dataclass
class Cluster:
    """A running one. `served` is `baton serve` on the first host."""

    hosts: Mapping[str, Host]
    served: Served
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://{self.hosts['head'].address}:{PORT}"

    def status(self) -> dict[str, Any]:
        """The router's page."""
        page: dict[str, Any] = httpx.get(f"{self.url}/status", timeout=10).json()
        return page

    def members(self) -> dict[str, dict[str, Any]]:
        """Workers by name, as the controller sees them."""
        return {member["worker_id"]: member for member in self.status()["members"]}

    def links(self) -> dict[str, dict[str, Any]]:
        """Workers by name, as the router sees them."""
        return {worker["worker_id"]: worker for worker in self.status()["workers"]}

    def worker_at(self, host: Host) -> str:
        """The worker on a host."""
        links = self.links().items()
        return next(name for name, link in links if link["address"].startswith(f"{host.address}:"))

    def is_ready(self, worker: str) -> bool:
        """Whether nobody has given it up."""
        return bool(self.members()[worker]["state"] == "ready")

    def is_whole(self) -> bool:
        """Whether all workers are ready, and linked to the router."""
        status = self.status()
        ready = [m["worker_id"] for m in status["members"] if m["state"] == "ready"]
        linked = [w["worker_id"] for w in status["workers"] if w["up"]]
        return len(ready) == len(status["members"]) and sorted(ready) == sorted(linked)

    def metric(self, name: str) -> dict[str, float]:
        """A metric by worker."""
        found: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines():
            if line.startswith(f"{name}{{"):
                worker = line.partition('worker="')[2].partition('"')[0]
                found[worker] = found.get(worker, 0.0) + float(line.rpartition(" ")[2])
        return found


def until(true: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Waits; returns how many seconds it took. Raises TimeoutError."""
    began = time.monotonic()
    while not true():
        if time.monotonic() > began + timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


@contextlib.contextmanager
def cluster(made: list[Host], roles: Mapping[str, str], patience: Patience) -> Iterator[Cluster]:
    """Ray on all hosts and `baton serve` on the first, until it serves; stopped at the end.

    `roles`: the role of the worker on each host, by name.
    """
    head = made[0]
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **patience.environment,
    }
    rays = [_ray(host, roles[host.name], head, environment) for host in made]
    numbers = {f"{role}.workers": list(roles.values()).count(role) for role in roles.values()}
    served = _serve(head, environment, {**OPTIONS, **numbers})
    try:
        served.wait_ready(_READY_S)
        yield Cluster({host.name: host for host in made}, served)
    finally:
        _stop(served)
        # The hosts' end ends them too; what is asked of them is asked here.
        for ray in rays:
            ray.kill()
            ray.wait()


def _ray(
    host: Host, role: str, head: Host, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """A node of Ray, started anew whenever it ends, as a service manager does."""
    options = [
        *("--node-ip-address", host.address, "--num-cpus", "1", "--disable-usage-stats"),
        *("--object-store-memory", str(100 * 2**20)),
        *("--resources", f"'{{\"{role}\": 1}}'"),
    ]
    where = f"--address {head.address}:{_RAY_PORT}"
    if host is head:
        folder = f"--temp-dir {host.folder / 'ray'}"
        where = f"--head --port {_RAY_PORT} --include-dashboard false {folder}"
    command = f"{_RAY} start --block {where} {' '.join(options)}"
    loop = f"while :; do date; {command}; sleep 1; done"
    return host.start(["sh", "-c", loop], environment, host.folder / "ray.log")


def _serve(head: Host, environment: Mapping[str, str], options: Mapping[str, object]) -> Served:
    command = [sys.executable, "-m", "deploy.cli", "serve"]
    fixed = {
        "cluster.run_dir": head.folder / "baton",
        "cluster.ray_address": f"{head.address}:{_RAY_PORT}",
    }
    for name, value in {**options, **fixed}.items():
        said = str(value).replace("'", '"') if isinstance(value, dict) else value
        command += ["--set", f"{name}={said}"]
    # Ray's head has to be there first.
    knock = f"import socket; socket.create_connection(('{head.address}', {_RAY_PORT}), 1)"
    script = f'while ! {sys.executable} -S -c "{knock}" 2> /dev/null; do sleep 0.3; done; exec "$@"'
    return Served(head.start(["sh", "-c", script, "sh", *command], environment))


def _stop(served: Served) -> None:
    """As Ctrl-C in its window; `nsenter` passes no signal on."""
    for process in descendants(served.process.pid)[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    try:
        served.process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        served.process.kill()
        served.process.wait()
