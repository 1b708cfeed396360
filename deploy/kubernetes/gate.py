"""A Ray Serve application that is well while Baton serves: what a RayService waits for.

KubeRay sends no clients to a new cluster, and ends no old one, before its applications run. This
one stands beside `baton serve`, in the same pod, and reads its state file; it serves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from deploy.rundir import RunDir, run_dir

_MARK = "baton-controller"
_SERVES = frozenset({"serving", "degraded"})
"""Degraded is a cluster that served whole and goes on with some of its workers or routers away: a
pod that is replaced must not make it ill."""
_LOOK_EVERY_S = 1.0


class Gate:
    """Made once Baton serves."""

    def __init__(
        self,
        cluster: str,
        home: RunDir,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._home = home
        # However long engines take to start: neither KubeRay nor Ray Serve sets a limit.
        while not self._serves():
            pause(_LOOK_EVERY_S)

    def check_health(self) -> None:
        """Raises RuntimeError when nobody serves; Ray Serve asks."""
        if not self._serves():
            raise RuntimeError(f"the cluster {self._cluster!r} does not serve")

    def _serves(self) -> bool:
        state = self._home.read(self._cluster)
        return state is not None and state.phase in _SERVES and state.running()


def app(args: Mapping[str, str]) -> Any:
    """The application, as Ray Serve builds it from its configuration."""
    from ray import serve

    beside = {"num_cpus": 0, "resources": {_MARK: 0.001}}
    deployment = serve.deployment(Gate).options(name="gate", ray_actor_options=beside)
    return deployment.bind(args["cluster"], run_dir(args.get("run_dir")))
