"""What is checked and said before a cluster opens its doors."""

from __future__ import annotations

from baton import tls
from baton.errors import StartupError, StartupFault
from baton.settings import Settings, process_environ
from baton.settings.model import is_loopback
from deploy.rundir import RunState
from router.access import Access, unusable


def check_files(settings: Settings) -> None:
    """Raises StartupError that names the setting whose file cannot be used."""
    tls.check(settings.tls)
    try:
        Access(settings.access)
    except (OSError, ValueError) as error:
        raise unusable(settings.access, error) from error


def warnings(settings: Settings) -> list[str]:
    """What whoever starts it should know, one sentence each.

    None of it is refused: a gateway or a closed network may be what protects the cluster.
    """
    keyed = settings.access.keys_path or process_environ().get("VLLM_API_KEY")
    host, inside = settings.router.host, settings.cluster.bind_host
    found = []
    if not is_loopback(host) and not keyed:
        found.append(f"everybody who reaches {host} may use it: no access.keys_path is set")
    if not is_loopback(host) and not settings.tls.public:
        found.append(f"{host} is served without encryption: no tls.cert_path is set")
    if not is_loopback(inside) and not settings.tls.cluster:
        found.append(f"workers trust everybody who reaches {inside}: no tls.cluster_ca_path is set")
    direct = settings.router.direct_host
    if settings.router.direct and not is_loopback(direct) and not settings.tls.public:
        found.append(f"answers are read from {direct} without encryption: no tls.cert_path is set")
    if settings.router.direct and is_loopback(direct) and not is_loopback(host):
        found.append(
            f"clients from elsewhere reach routers at {host} and no worker at {direct}: set "
            "router.direct_host, or leave router.direct off"
        )
    apart = settings.router.front in {"python-processes", "rust"}
    if apart and not is_loopback(inside):
        what = "/metrics and /targets" if keyed else "Baton's pages, of all tenants"
        found.append(
            f"everybody who reaches {inside} may read {what}: the routers serve them there"
        )
    if settings.router.front == "rust" and settings.engine.extra_args:
        given = ", ".join(sorted(settings.engine.extra_args))
        found.append(f"the Rust front end is not told engine.extra_args: {given}")
    return found


def refuse_second(state: RunState | None) -> None:
    """Raises StartupError if the cluster of this state runs."""
    if state is not None and state.running():
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"the cluster {state.cluster!r} already runs (pid {state.pid})",
            hint="Stop it with `baton down`, or give this one another cluster.name and port.",
        )
