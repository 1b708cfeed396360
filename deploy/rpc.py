"""The gRPC side of one router's process: opened last, and left before the process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baton.settings import Settings
from baton.wire.credentials import server_credentials
from cluster.addresses import reached_at, spans_machines, with_port
from cluster.ray_nodes import own_address

if TYPE_CHECKING:
    from router.front import BatonFront
    from router.http import Pages
    from router.rpc import RpcServer


class Rpc:
    """Does nothing where the settings want no gRPC. Belongs to the router's event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: tuple[Any, BatonFront, Pages] | None = None
        self._server: RpcServer | None = None

    @property
    def running(self) -> int:
        """Calls under way."""
        return 0 if self._server is None else self._server.running

    @property
    def address(self) -> str | None:
        """Where clients reach it; None while they do not."""
        if self._server is None:
            return None
        host = self._settings.router.host
        if spans_machines(self._settings.cluster.bind_host):
            host = reached_at(host, own_address)
        return with_port(host, self._server.port)

    def prepare(self, app: Any, front: BatonFront, pages: Pages) -> None:
        """What it is to serve: the same as vLLM's app, which is complete."""
        self._parts = app, front, pages

    async def open(self) -> None:
        """Listens. Raises StartupError PORT_TAKEN."""
        router = self._settings.router
        if self._parts is None or (port := router.grpc_port_wanted) is None:
            return
        # Late: it imports vLLM.
        from router.rpc import Place, serve
        from router.rpc_requests import Requests

        app, front, pages = self._parts
        place = Place(router.host, port, server_credentials(self._settings.tls))
        requests = Requests(front, app.state)
        self._server = await serve(requests, pages, router, place, app.state.baton_access)

    async def stop(self, grace_s: float) -> None:
        """See `RpcServer.stop`."""
        if self._server is not None:
            await self._server.stop(grace_s)
