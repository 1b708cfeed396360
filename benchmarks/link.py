"""A loopback interface of one's own whose KV traffic can be slowed down.

The benchmark starts itself again in a new network namespace. There, what goes to or comes from
`CONTROL` (requests and answers) stays fast, and everything else on the interface, which is the KV,
passes a class of a token bucket. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

CONTROL = "127.0.0.2"
"""Where workers listen. KV goes over the interface's first address."""
_INSIDE = "BATON_BENCHMARK_LINK"
_TOOLS = ("unshare", "ip", "tc")
_BURST_BYTES = 256 * 1024
_UNLIMITED = 5e9
"""Bytes per second; loopback reaches about half of it here."""


def inside() -> bool:
    """Whether this process has such an interface."""
    return os.environ.get(_INSIDE) == "1"


def why_not() -> str | None:
    """What is missing to have one; None when nothing is."""
    script = " && ".join([*_SET_UP, _class(_KV, _UNLIMITED)])
    return lack(_TOOLS, ["unshare", "--net", "sh", "-c", script])


def lack(tools: Sequence[str], trial: Sequence[str]) -> str | None:
    """Which tools are not there, or why a trial of them fails; None when all is well."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    return (tried.stderr.strip() or f"{trial[0]} failed") if tried.returncode else None


def enter(module: str, argv: Sequence[str]) -> None:
    """Replaces this process by the module, run in a network namespace."""
    command = ["unshare", "--net", sys.executable, "-m", module, *argv]
    os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})  # noqa: S606


def set_up() -> None:
    """The interface, with nothing limited."""
    for command in _SET_UP:
        _run(command)
    limit(None)


def limit(bytes_per_s: float | None) -> None:
    """Set the rate of KV, or lift it."""
    _run(_class(_KV, bytes_per_s or _UNLIMITED))


def _class(name: str, bytes_per_s: float) -> str:
    bucket = f"rate {round(bytes_per_s * 8)}bit burst {_BURST_BYTES} cburst {_BURST_BYTES}"
    return f"tc class replace dev lo parent 1: classid {name} htb {bucket} quantum 200000"


def _filter(end: str) -> str:
    match = f"u32 match ip {end} {CONTROL}/32 flowid {_FAST}"
    return f"tc filter add dev lo parent 1: protocol ip prio 1 {match}"


_FAST, _KV = "1:10", "1:20"
_SET_UP = (
    "ip link set lo up",
    "tc qdisc add dev lo root handle 1: htb default 20",
    _class(_FAST, _UNLIMITED),
    _filter("src"),
    _filter("dst"),
)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
