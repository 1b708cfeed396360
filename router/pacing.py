"""Tokens that wait together while the router is busy, rather than each for a message of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, Protocol

WAIT_MAX_S = 0.05
"""Nothing waits longer for company."""


class Stream(Protocol):
    """Outputs of one request; those that nobody has taken yet become one."""

    async def ready(self) -> bool:
        """Returns once there is an output, which stays and is added to; False at the end."""
        ...

    async def __anext__(self) -> Any:
        """Takes it."""
        ...


async def gathered(stream: Stream) -> AsyncGenerator[Any, None]:
    """Outputs, each at once if the last one was passed on quickly.

    Else as long after it as that took: a busy router has fewer messages to make, and a token waits
    for at most as long again as it waits in any case.
    """
    not_before = 0.0
    while await stream.ready():
        if (wait_s := not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        taken_at = time.monotonic()
        yield await anext(stream)
        now = time.monotonic()
        not_before = now + min(now - taken_at, WAIT_MAX_S)
