"""The way in to a router whose front ends are processes of their own.

It stands where the router's own HTTP server would. Its processes share the router's listening
socket, and tenants with a front end of their own have a port of their own too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from baton.errors import StartupError, StartupFault
from baton.messages import WorkerInfo
from baton.settings import Settings
from baton.tasks import OnFault
from deploy.front_commands import python_launch, rust_launch
from router.engine_link import FrontEnd, ModelLimits
from router.engine_links import EngineLinks
from router.front_processes import FrontProcesses, Launch, Seat
from router.listen import bind
from router.ports import HeartPort
from router.tracing import Tracing

_LOOK_EVERY_S = 0.05
_HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


class FrontEnds:
    """The front-end processes of one router. Belongs to its event loop."""

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        heart: HeartPort,
        tracing: Tracing | None = None,
        on_fault: OnFault | None = None,
    ) -> None:
        self._settings = settings
        self._processes = FrontProcesses(launch, self, on_fault)
        own = settings.access.separates()
        self.links = EngineLinks(heart, tracing, self._processes.kill, own_caches=own)
        self._limits = ModelLimits(settings.model.max_model_len_tokens or 0)
        self._doors: list[socket.socket] = []

    # --- what the processes' keeper calls ---------------------------------------------------------

    def attach(self, name: str, input_address: str, output_address: str, tenant: str) -> None:
        """See `router.front_processes.Attach`."""
        self.links.attach(FrontEnd(name, input_address, output_address, tenant), self._limits)

    def detach(self, name: str) -> None:
        """See `router.front_processes.Attach`."""
        self.links.detach(name)

    # --- what the router calls --------------------------------------------------------------------

    def follow(self, workers: Iterable[WorkerInfo], most_tokens: int) -> None:
        """Takes over what these workers can hold; the model itself can hold `most_tokens`."""
        found = list(workers)
        length = min((most_tokens, *(info.max_model_len_tokens for info in found)))
        self._limits = ModelLimits(length)
        if found:
            blocks, first = sum(info.kv_blocks for info in found), found[0]
            self._limits = ModelLimits(length, first.block_size_tokens, blocks, first.dtype)
        self.links.limit(length)

    async def start(self, door: socket.socket) -> None:
        """Starts all processes; returns when clients are served. Raises StartupError."""
        router = self._settings.router
        self._doors = [door]
        seats = [Seat(f"front-{number}", door) for number in range(router.front_processes)]
        for tenant, port in router.front_tenants.items():
            self._doors.append(bind(router.host, port, reuse_port=True))
            seats.append(Seat(f"tenant-{tenant}", self._doors[-1], tenant))
        self._processes.start(seats)
        try:
            async with asyncio.timeout(self._settings.engine.start_timeout_s):
                await self._served()
        except TimeoutError:
            await self._processes.aclose(0)
            raise StartupError(
                StartupFault.START_TIMEOUT,
                f"No front end ({router.front}) serves, and {self._processes.restarts} have been "
                "started anew.",
                hint="Read the router's log: front ends write to the same place.",
            ) from None

    async def _served(self) -> None:
        """Returns when the processes of this router serve; others may share its socket."""
        while not self._processes.accepting():  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(_LOOK_EVERY_S)
        for one in self._doors:
            while not await _healthy(one):  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(_LOOK_EVERY_S)

    @property
    def port(self) -> int:
        """The port that clients of any tenant reach."""
        port: int = self._doors[0].getsockname()[1]
        return port

    @property
    def clients(self) -> int:
        """How many processes may have clients."""
        return len(self._processes.pids)

    async def close(self) -> None:
        """Takes no new connections; returns when all that came before is answered."""
        await self._end(self._settings.cluster.drain_timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """As `close`, within so many seconds."""
        await self._end(timeout_s)
        self.links.close()

    async def _end(self, timeout_s: float) -> None:
        # First: nobody is to wait in a socket that the processes accept from no more.
        for door in self._doors:
            door.close()
        await self._processes.aclose(timeout_s)


def front_ends_of(
    settings: Settings,
    model: Path,
    served_name: str,
    heart: HeartPort,
    tracing: Tracing | None = None,
    on_fault: OnFault | None = None,
) -> FrontEnds | None:
    """The front-end processes that the settings ask for; None: the router serves clients itself.

    Raises StartupError FRONT_END_MISSING.
    """
    makers: dict[str, Callable[[], Launch]] = {
        "rust": lambda: rust_launch(settings, model, served_name),
        "python-processes": lambda: python_launch(settings, model),
    }
    maker = makers.get(settings.router.front)
    return None if maker is None else FrontEnds(settings, maker(), heart, tracing, on_fault)


async def _healthy(door: socket.socket) -> bool:
    """Whether somebody answers there."""
    host, port = door.getsockname()[:2]
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_HEALTH)
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
