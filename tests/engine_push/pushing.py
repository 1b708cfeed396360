"""Requests with both legs at once, as a router sends them to a connector that pushes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from baton.wire import worker_pb2 as wire
from tests.engine.cluster_of_two import ClusterOfTwo
from tests.engine.pair import NUMBERS, Leg, Pair, WorkerLink, encoded


@dataclass(frozen=True)
class Legs:
    """Both legs of one request."""

    prefill: Leg
    decode: Leg


class PushPair(Pair):
    """Both links of one router."""

    def __init__(self, cluster: ClusterOfTwo) -> None:
        super().__init__(cluster)
        self._ends = {
            wire.LEG_PREFILL: (self.prefill, cluster.decode.info.transfer_endpoint),
            wire.LEG_DECODE: (self.decode, cluster.prefill.info.transfer_endpoint),
        }

    async def run(
        self, prompt: Sequence[int], max_tokens: int, salt: str = "", spoil: object = None
    ) -> list[int]:
        """The tokens of the decode leg."""
        return await (await self.both(prompt, max_tokens, salt)).decode.tokens()

    async def both(
        self, prompt: Sequence[int], max_tokens: int, salt: str = "", gap_s: float = 0.0
    ) -> Legs:
        """Send both legs; with a gap prefill goes first, with a negative one decode does."""
        payload, ticket = encoded(prompt, max_tokens, salt), f"r{next(NUMBERS)}"
        kinds = [wire.LEG_PREFILL, wire.LEG_DECODE]
        legs = {}
        for kind in kinds if gap_s >= 0 else reversed(kinds):
            legs[kind] = await self.leg(kind, prompt, payload, ticket)
            await asyncio.sleep(abs(gap_s))
        return Legs(legs[wire.LEG_PREFILL], legs[wire.LEG_DECODE])

    async def leg(self, kind: int, prompt: Sequence[int], payload: list[bytes], ticket: str) -> Leg:
        """Send one leg."""
        link, peer = self._ends[kind]
        letter = "p" if kind == wire.LEG_PREFILL else "d"
        return await link.submit(
            wire.Submit(
                leg_id=f"{ticket}.0.{letter}",
                kind=kind,
                request=payload,
                ticket=wire.Ticket(ticket_id=ticket, epoch=0, deadline_s=30, peer=peer),
                prompt_tokens=len(prompt),
            )
        )

    async def until_block_free(self, link: WorkerLink, timeout_s: float = 15) -> None:
        """Wait until one worker has no leg left and uses no block."""
        async with asyncio.timeout(timeout_s):
            await link.until_idle(timeout_s)
            await _until_no_block_is_used(link)

    async def until_empty(self, timeout_s: float = 15) -> None:
        """Wait until no leg is left and no block is in use."""
        for link in (self.prefill, self.decode):
            await self.until_block_free(link, timeout_s)


async def _until_no_block_is_used(link: WorkerLink) -> None:
    while (await link.report()).load.kv_used > 0:  # noqa: ASYNC110 - it is another process's
        await asyncio.sleep(0.1)
