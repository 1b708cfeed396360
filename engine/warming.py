"""A new worker's first requests, made before any of a user: what is paid once is paid here.

One that it serves alone, and one tiny handover with each of a few peers, one after the other, over
the same service that routers use. No two of them share a prefix, so that KV is really moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, cast

import grpc

from baton.errors import BatonError, Reason
from baton.ids import Leg, LegId, RequestId
from baton.messages import Dispatch, Role, WorkerInfo
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from baton.wire.credentials import Dial, Option, dial

PEER_S = 10.0
"""A peer has so long for its handover, its queue included."""
QUEUE_MAX_S = 1.0
"""Users who wait for a prefill worker do not wait for this, nor this for them."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

Payload: TypeAlias = Callable[[str], Sequence[bytes]]
"""A request of one token, as routers send it; of another content for each name."""
_Call: TypeAlias = "grpc.aio.StreamStreamCall[wire.RouterMessage, wire.StepFrame]"


class Warming:
    """Of one worker, which serves already. `payload` makes requests of `prompt_tokens` tokens."""

    def __init__(
        self, own: WorkerInfo, payload: Payload, prompt_tokens: int, dial: Dial = dial
    ) -> None:
        self._own = own
        self._dial = dial
        self._payload = payload
        self._prompt_tokens = prompt_tokens

    async def run(self, role: Role, peers: Sequence[WorkerInfo], timeout_s: float) -> str:
        """What went wrong, empty = nothing. As a worker of this role; never raises."""
        wrong: list[str] = []
        try:
            async with asyncio.timeout(timeout_s):
                await self._alone()
                for peer in peers:
                    wrong += await self._meet(role, peer)
        except TimeoutError:
            wrong.append(f"first requests took more than {timeout_s:g} s")
        except BatonError as error:
            wrong.append(f"first request: {error.message}")
        return "; ".join(wrong)

    async def _alone(self) -> None:
        name = f"warm-{self._own.worker_id}-{self._own.incarnation}"
        # The second one finds the first one's block in the cache: a step of one token, as decode
        # makes them.
        for attempt in range(2):
            leg_id = LegId(RequestId(name), attempt, Leg.SOLO)
            await self._run(self._own, self._submit(leg_id, wire.LEG_SOLO))

    async def _meet(self, role: Role, peer: WorkerInfo) -> list[str]:
        ends = (self._own, peer) if role is Role.PREFILL else (peer, self._own)
        try:
            async with asyncio.timeout(PEER_S):
                await self._hand_over(*ends)
        except TimeoutError:
            return [f"no handover with {peer.worker_id} within {PEER_S:g} s"]
        except BatonError as error:
            return [f"no handover with {peer.worker_id}: {error.message}"]
        return []

    async def _hand_over(self, prefill: WorkerInfo, decode: WorkerInfo) -> None:
        starts = "-".join(f"{w.worker_id}-{w.incarnation}" for w in (prefill, decode))
        name = f"warm-{starts}-by-{self._own.worker_id}"
        ticket = wire.Ticket(
            ticket_id=name, epoch=1, deadline_s=PEER_S, peer=decode.transfer_endpoint
        )
        prompt = self._submit(LegId(RequestId(name), 0, Leg.PREFILL), wire.LEG_PREFILL, ticket)
        ticket.peer = prefill.transfer_endpoint
        answer = self._submit(LegId(RequestId(name), 0, Leg.DECODE), wire.LEG_DECODE, ticket)
        if self._own.dispatch is Dispatch.CONCURRENT:
            await _together(self._run(prefill, prompt), self._run(decode, answer))
        else:
            answer.ticket.handed = await self._run(prefill, prompt)
            await self._run(decode, answer)

    def _submit(
        self, leg_id: LegId, kind: wire.LegKind.ValueType, ticket: wire.Ticket | None = None
    ) -> wire.Submit:
        return wire.Submit(
            leg_id=str(leg_id),
            kind=kind,
            request=self._payload(leg_id.request),
            ticket=ticket,
            prompt_tokens=self._prompt_tokens,
            queue_max_s=QUEUE_MAX_S,
        )

    async def _run(self, worker: WorkerInfo, submit: wire.Submit) -> bytes:
        """What a leg handed over, on a link of its own, whose end aborts it.

        Raises BatonError if it did not end well.
        """
        hello = wire.Hello(router_id=submit.leg_id, config_digest=worker.config_digest)
        options: list[Option] = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        async with self._dial(worker.address, options) as channel:
            # The stub's types know blocking channels only.
            call = cast(Callable[[], _Call], wire_grpc.WorkerStub(channel).Link)()
            try:
                await call.write(wire.RouterMessage(hello=hello))
                await call.write(wire.RouterMessage(submit=submit))
                return await _handed(call, submit.leg_id)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise BatonError(Reason.WORKER_LOST, f"the link broke: {_words(error)}") from error
            finally:
                call.cancel()


async def _together(*legs: Coroutine[Any, Any, bytes]) -> None:
    """Runs them until all have ended well; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for leg in legs:
                group.create_task(leg)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


async def _handed(call: _Call, leg_id: str) -> bytes:
    while isinstance(frame := await call.read(), wire.StepFrame):
        for ended in frame.ended:
            if ended.leg_id == leg_id:
                raise BatonError.from_wire({"reason": ended.reason, "message": ended.message})
        for done in frame.prefilled:
            if done.leg_id == leg_id:
                return done.handed
    raise BatonError(Reason.WORKER_LOST, "the link ended")


def _words(error: Exception) -> str:
    details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return details or type(error).__name__
