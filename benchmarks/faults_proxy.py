"""A relay before a worker's gRPC port that can be cut like a cable."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from baton.tasks import Tasks

_PIECE_BYTES = 1 << 16


class Relay:
    """Listens on loopback for one target. What was under way at a cut arrives once it is over."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks = Tasks(f"relay to {target}")
        self._server: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def cut(self) -> None:
        """Let nothing pass from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Let all pass again."""
        self._whole.set()

    async def aclose(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        await self._tasks.aclose()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            theirs, ours = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        self._tasks.spawn(self._pump(reader, ours), "up")
        self._tasks.spawn(self._pump(theirs, writer), "down")

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while piece := await reader.read(_PIECE_BYTES):
                    await self._whole.wait()
                    writer.write(piece)
                    await writer.drain()
        finally:
            writer.close()
