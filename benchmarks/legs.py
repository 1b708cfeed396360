"""A router's end of two worker links, just enough to run requests through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self, TypeAlias

import grpc
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from baton.messages import WorkerInfo
from baton.tasks import Tasks
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from benchmarks.engines import ClusterOfTwo

Event: TypeAlias = EngineCoreOutput | wire.Prefilled | wire.Ended
Spoil = Callable[[dict[str, Any]], None]
NUMBERS = count()
"""Leg ids are never reused, not even across tests."""


class LegEndedError(Exception):
    """A worker ended a leg with a reason."""

    def __init__(self, ended: wire.Ended) -> None:
        super().__init__(f"{ended.reason}: {ended.message}")
        self.ended = ended


@dataclass
class Leg:
    """One leg on one link; its events in order."""

    leg_id: str
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    prefilled: int = 0
    """How often the worker said that its prompt is computed."""

    async def next(self, kind: type[Any], timeout_s: float = 60) -> Any:
        """The next event. Raises LegEndedError when the leg ended instead."""
        event: Any = await asyncio.wait_for(self.events.get(), timeout_s)
        if isinstance(event, wire.Ended) and kind is not wire.Ended:
            raise LegEndedError(event)
        assert isinstance(event, kind), f"{event} is not a {kind.__name__}"
        return event

    async def tokens(self) -> list[int]:
        """All tokens until the leg is finished."""
        found: list[int] = []
        while True:
            output = await self.next(EngineCoreOutput)
            found += output.new_token_ids
            if output.finish_reason is not None:
                return found


class WorkerLink:
    """A link to one worker."""

    def __init__(self, info: WorkerInfo, tasks: Tasks) -> None:
        self._channel: Any = grpc.aio.insecure_channel(info.address)
        self._digest = info.config_digest
        self._tasks = tasks
        self._decoder = MsgpackDecoder(EngineCoreOutputs)
        self.stub: Any = wire_grpc.WorkerStub(self._channel)
        self.legs: dict[str, Leg] = {}
        self._writing = asyncio.Lock()
        self.outputs = 0
        """Outputs that ever came over this link."""

    async def open(self) -> None:
        """Say hello, and listen."""
        self._call = self.stub.Link()
        hello = wire.Hello(router_id=f"router-{next(NUMBERS)}", config_digest=self._digest)
        await self._call.write(wire.RouterMessage(hello=hello))
        self._tasks.spawn(self._listen(), "frames")

    async def close(self) -> None:
        """Leave."""
        self._call.cancel()
        await self._channel.close()

    async def submit(self, submit: wire.Submit) -> Leg:
        """Send a leg."""
        leg = self.legs[submit.leg_id] = Leg(submit.leg_id)
        await self._write(wire.RouterMessage(submit=submit))
        return leg

    async def abort(self, leg: Leg) -> None:
        """Take a leg back."""
        await self._write(wire.RouterMessage(abort=wire.Abort(leg_ids=[leg.leg_id])))

    async def _write(self, message: wire.RouterMessage) -> None:
        async with self._writing:
            await self._call.write(message)

    async def report(self) -> wire.WorkerReport:
        """The worker's counters."""
        report: wire.WorkerReport = await self.stub.Report(wire.ReportRequest())
        return report

    async def until_idle(self, timeout_s: float = 10) -> wire.WorkerReport:
        """Wait until no leg is left."""
        async with asyncio.timeout(timeout_s):
            while True:
                if not (report := await self.report()).legs:
                    return report
                await asyncio.sleep(0.02)

    async def _listen(self) -> None:
        async for frame in self._call:
            for done in frame.prefilled:
                leg = self.legs[done.leg_id]
                leg.prefilled += 1
                if done.handed:  # else it is the word that tokens follow
                    leg.events.put_nowait(done)
            for ended in frame.ended:
                self.legs[ended.leg_id].events.put_nowait(ended)
            if frame.outputs:
                for output in self._decoder.decode(list(frame.outputs)).outputs:
                    self.outputs += 1
                    self.legs[output.request_id].events.put_nowait(output)


class Pair:
    """Both links of one router. Use as an async context."""

    def __init__(self, cluster: ClusterOfTwo) -> None:
        self._tasks = Tasks("pair")
        self.prefill = WorkerLink(cluster.prefill.info, self._tasks)
        self.decode = WorkerLink(cluster.decode.info, self._tasks)
        self._ends = {
            wire.LEG_PREFILL: (self.prefill, cluster.decode.info.transfer_endpoint),
            wire.LEG_DECODE: (self.decode, cluster.prefill.info.transfer_endpoint),
        }

    async def __aenter__(self) -> Self:
        await self.prefill.open()
        await self.decode.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.aclose()
        await self.prefill.close()
        await self.decode.close()

    async def run(
        self, prompt: Sequence[int], max_tokens: int, salt: str = "", spoil: Spoil | None = None
    ) -> list[int]:
        """Prefill on one worker, decode on the other. `spoil` alters what is handed over."""
        payload, number = encoded(prompt, max_tokens, salt), next(NUMBERS)
        leg = await self.submit_prefill(prompt, payload, f"r{number}.0.p")
        handed = (await leg.next(wire.Prefilled)).handed
        if spoil is not None:
            params = json.loads(handed)
            spoil(params)
            handed = json.dumps(params).encode()
        decode = await self.submit_decode(prompt, payload, f"r{number}.0.d", handed)
        return await decode.tokens()

    async def solo(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        salt: str = "",
        link: WorkerLink | None = None,
    ) -> list[int]:
        """Prefill and decode on one worker, by default the decode worker."""
        submit = wire.Submit(
            leg_id=f"r{next(NUMBERS)}.0.s",
            kind=wire.LEG_SOLO,
            request=encoded(prompt, max_tokens, salt),
            prompt_tokens=len(prompt),
        )
        return await (await (link or self.decode).submit(submit)).tokens()

    async def leg(
        self,
        kind: Any,
        prompt: Sequence[int],
        payload: list[bytes],
        ticket: str,
        handed: bytes = b"",
    ) -> Leg:
        """Send one leg with a ticket that says who is at its other end."""
        link, peer = self._ends[kind]
        letter = "p" if kind == wire.LEG_PREFILL else "d"
        told = wire.Ticket(ticket_id=ticket, epoch=0, deadline_s=30, handed=handed, peer=peer)
        return await link.submit(
            wire.Submit(
                leg_id=f"{ticket}.0.{letter}",
                kind=kind,
                request=payload,
                ticket=told,
                prompt_tokens=len(prompt),
            )
        )

    async def submit_prefill(self, prompt: Sequence[int], payload: list[bytes], leg_id: str) -> Leg:
        """The first half."""
        return await self.prefill.submit(
            wire.Submit(
                leg_id=leg_id,
                kind=wire.LEG_PREFILL,
                request=payload,
                ticket=wire.Ticket(ticket_id=leg_id, epoch=1, deadline_s=30),
                prompt_tokens=len(prompt),
            )
        )

    async def submit_decode(
        self, prompt: Sequence[int], payload: list[bytes], leg_id: str, handed: bytes
    ) -> Leg:
        """The second half."""
        return await self.decode.submit(
            wire.Submit(
                leg_id=leg_id,
                kind=wire.LEG_DECODE,
                request=payload,
                ticket=wire.Ticket(ticket_id=leg_id, epoch=1, deadline_s=30, handed=handed),
                prompt_tokens=len(prompt),
            )
        )


@dataclass(frozen=True)
class Legs:
    """Both legs of one request."""

    prefill: Leg
    decode: Leg


class PushPair(Pair):
    """Both links of one router; each leg's ticket says who is at its other end."""

    def turn_round(self) -> None:
        """Prefill where decode was, and the reverse."""
        prefill, decode = self._ends[wire.LEG_PREFILL], self._ends[wire.LEG_DECODE]
        self._ends = {wire.LEG_PREFILL: decode, wire.LEG_DECODE: prefill}

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


def encoded(prompt: Sequence[int], max_tokens: int, salt: str = "") -> list[bytes]:
    """A greedy request as a router sends it."""
    request = EngineCoreRequest(
        request_id="unused",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=salt or None,
        data_parallel_rank=None,
    )
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(request)]
