"""Hosts on one machine: network namespaces on a switch of their own.

Each host has its own interfaces, processes, shared memory and temporary files, as machines have.
The switch is a bridge in the namespace of whoever makes the hosts, so that nothing outside is
touched: no interface, no route, no packet. It is made inside `python -m` of a module that calls
`inside`, and all of it ends with that process. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.link import lack
from cluster.processes import descendants

ROOT = Path(__file__).parents[1]
SWITCH = "10.77.0.1"
"""The address of whoever makes the hosts."""
_INSIDE = "RUN_ON_HOSTS"
_TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount")
_APART = ("--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
_OWN = (*_APART, "--ipc", "--uts")
# The first process of a host; those that lose their parent are its to bury.
_INIT = """
import os, subprocess, sys, time
name, address, folder = sys.argv[1:]
files = {"hosts": f"127.0.0.1 localhost\\n{address} {name}\\n", "resolv.conf": ""}
for file, text in files.items():
    with open(f"{folder}/{file}", "w") as out:
        out.write(text)
    # Names that are looked up elsewhere take programs many seconds each.
    subprocess.run(["mount", "--bind", f"{folder}/{file}", f"/etc/{file}"], check=True)
for command in (
    ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],
    ["hostname", name],
    ["ip", "link", "set", "lo", "up"],
):
    subprocess.run(command, check=True)
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.1)
"""


def inside() -> bool:
    """Whether this process has a network namespace of its own."""
    return os.environ.get(_INSIDE) == "1"


def why_not() -> str | None:
    """What is missing to make hosts; None when nothing is."""
    script = "mount -t tmpfs tmpfs /dev/shm && ip link add sw type bridge && ip link set sw up"
    return lack(_TOOLS, ["unshare", *_OWN, "sh", "-c", script])


def run_inside(
    module: str, argv: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs the module with namespaces of its own, its standard output kept.

    Neither it nor anything that it started outlives its end, or that of this process.
    """
    # The kernel ends `unshare` with this thread, and what it started with `unshare`.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_APART, sys.executable, "-m", module]
    return subprocess.run(
        [*command, *argv],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **environment, _INSIDE: "1"},
    )


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `folder` is for its temporary files."""

    name: str
    address: str
    folder: Path
    init: subprocess.Popen[str]

    @property
    def port(self) -> str:
        """Its port at the switch."""
        return f"to-{self.name}"

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command there; its output goes into a pipe, or into a log."""
        with contextlib.ExitStack() as files:
            out = subprocess.PIPE if log is None else files.enter_context(log.open("a"))
            return subprocess.Popen(
                [*self._enter(), "env", f"--chdir={ROOT}", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.folder), **environment},
            )

    def cut(self) -> None:
        """From now on nothing comes through, and nobody is told: the cable is out of the switch,
        and the light at the host's own end stays on."""
        _run(f"ip link set {self.port} nomaster")

    def mend(self) -> None:
        """The cable is back."""
        _run(f"ip link set {self.port} master sw")

    def sent_bytes(self) -> int:
        """What left its interface since its start."""
        lines = Path(f"/proc/{self._first}/net/dev").read_text().splitlines()
        (line,) = (line for line in lines if line.strip().startswith("eth0:"))
        return int(line.partition(":")[2].split()[8])

    def end(self) -> None:
        """Ends it as a power failure does: all of its processes at once."""
        self.init.kill()
        self.init.wait()

    def _enter(self) -> list[str]:
        parts = ("--net", "--pid", "--mount", "--ipc", "--uts")
        return ["nsenter", "--target", str(self._first), *parts]

    @property
    def _first(self) -> int:
        return descendants(self.init.pid)[0].pid


@contextlib.contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[list[Host]]:
    """Hosts at 10.77.0.2 and the following addresses; at the end none is left.

    Needs a namespace of its own: see `inside`. Raises CalledProcessError.
    """
    assert inside(), "hosts are made in a namespace of their own"
    _run("ip link set lo up")
    _run("ip link add sw type bridge")
    _run(f"ip addr add {SWITCH}/24 dev sw")
    _run("ip link set sw up")
    found: list[Host] = []
    try:
        for number, name in enumerate(names, start=2):
            found.append(_host(name, f"10.77.0.{number}", folder / name))
        yield found
    finally:
        for host in found:
            host.end()
        _run("ip link del sw")


def _host(name: str, address: str, folder: Path) -> Host:
    folder.mkdir()
    command = ["unshare", *_OWN, sys.executable, "-I", "-S", "-c", _INIT]
    command += [name, address, str(folder)]
    init = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    host = Host(name, address, folder, init)
    assert init.stdout is not None
    if init.stdout.readline() != "up\n":
        init.wait()
        raise RuntimeError(f"host {name} did not come up")
    first = host._first  # noqa: SLF001 - it is made here
    _run(f"ip link add {host.port} type veth peer name eth0 netns {first}")
    _run(f"ip link set {host.port} master sw up")
    for line in (
        f"ip addr add {address}/24 dev eth0",
        "ip link set eth0 up",
        # Nothing is beyond the switch; programs look at it to find their own address.
        f"ip route add default via {SWITCH}",
    ):
        _run(f"nsenter --target {first} --net {line}")
    return host


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
