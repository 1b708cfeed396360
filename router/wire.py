"""What router and worker say to each other, and the shape of the link that carries it.

Values in, messages of `baton.wire` out, and the reverse. Knows no transport.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from baton.errors import BatonError
from baton.ids import Leg, LegId, RouterId, WorkerId
from baton.messages import LegTimes, WorkerInfo, WorkerLoad
from baton.wire import worker_pb2 as pb
from router.life import Handoff, SubmitLeg
from router.policy.prefill import Answer
from router.ports import NO_ROUTE, EngineRequest, Route

_KINDS = {Leg.PREFILL: pb.LEG_PREFILL, Leg.DECODE: pb.LEG_DECODE, Leg.SOLO: pb.LEG_SOLO}


@dataclass(frozen=True, slots=True)
class Identity:
    """How a router introduces itself. `router_id` is unique per process, not per router."""

    router_id: RouterId
    config_digest: str


class LinkEvents(Protocol):
    """What a link tells its owner, in the event loop. Neither call may block or raise."""

    def on_frame(self, worker_id: WorkerId, frame: pb.StepFrame) -> None:
        """The next frame. The first one after a connect or a loss means that the link is up."""

    def on_link_lost(self, worker_id: WorkerId, why: str) -> None:
        """A link that was up is gone, and every leg sent over it; at most once per time it was up.

        The link goes on trying to connect until it is closed.
        """


class LinkPort(Protocol):
    """The connection to one worker. Messages keep their order."""

    def send(self, message: pb.RouterMessage) -> None:
        """Queues a message. Never blocks or raises.

        While the link is down the message is dropped: the worker has forgotten the legs, and
        `on_link_lost` has said so or is about to.
        """

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Ends the connection once awaited. No event comes after this call."""
        ...


Connect: TypeAlias = Callable[[WorkerInfo, LinkEvents], LinkPort]


def submit_message(
    command: SubmitLeg,
    request: EngineRequest,
    deadline_s: float,
    peer: bytes = b"",
    route: Route = NO_ROUTE,
) -> pb.RouterMessage:
    """A leg as its worker gets it. `deadline_s`: seconds from now until the handoff is given up;
    `peer`: the transfer endpoint of the worker at its other end."""
    is_prefill = command.kind is Leg.PREFILL
    submit = pb.Submit(
        leg_id=str(command.leg_id),
        kind=_KINDS[command.kind],
        request=request.payload,
        prompt_tokens=request.prompt_tokens + len(route.resumed),
        ticket=_ticket(command.handoff, deadline_s, peer),
        blocks=route.blocks if command.kind is not Leg.DECODE else (),
        queue_max_s=route.queue_max_s if is_prefill else 0.0,
        resumed=route.resumed,
        direct=None if is_prefill else _direct(route.grant, deadline_s),
    )
    return pb.RouterMessage(submit=submit)


def _direct(grant: bytes, deadline_s: float) -> pb.Direct | None:
    return pb.Direct(grant=grant, deadline_s=deadline_s) if grant else None


def abort_message(leg_ids: Iterable[LegId | str]) -> pb.RouterMessage:
    """Makes a worker forget legs."""
    return pb.RouterMessage(abort=pb.Abort(leg_ids=[str(leg_id) for leg_id in leg_ids]))


def probe_message(
    leg_id: LegId, prompt_tokens: int, blocks: Iterable[int], hold_s: float
) -> pb.RouterMessage:
    """Asks a worker how it would be for a leg, and to hold its place for so many seconds."""
    probe = pb.Probe(leg_id=str(leg_id), prompt_tokens=prompt_tokens, blocks=blocks, hold_s=hold_s)
    return pb.RouterMessage(probe=probe)


def answer_of(answer: pb.Answer, slot: int) -> Answer | None:
    """A worker's word on a probe; None if it would refuse the leg, or makes no sense."""
    if answer.refused or not (math.isfinite(answer.queue_s) and answer.queue_s >= 0):
        return None
    return Answer(slot, answer.queue_s, answer.cached_tokens)


def resync_message() -> pb.RouterMessage:
    """Asks a worker for all that its cache holds."""
    return pb.RouterMessage(resync=pb.Resync())


def hello_message(identity: Identity) -> pb.RouterMessage:
    """The first message of every connection."""
    hello = pb.Hello(router_id=identity.router_id, config_digest=identity.config_digest)
    return pb.RouterMessage(hello=hello)


def load_of(load: pb.Load) -> WorkerLoad:
    """A worker's report as a value; what cannot be true becomes nothing."""
    return WorkerLoad(
        running=load.running,
        waiting=load.waiting,
        kv_used=min(sane(load.kv_used), 1.0),
        queued_prompt_tokens=load.queued_prompt_tokens,
        steps=load.steps,
        step_s=sane(load.step_s),
        draining=load.draining,
        prefix_queried_tokens=load.prefix_queried_tokens,
        prefix_hit_tokens=load.prefix_hit_tokens,
        preemptions=load.preemptions,
        queue_s=sane(load.queue_s),
        steps_s=sane(load.steps_s),
    )


def times_of(times: pb.LegTimes) -> LegTimes:
    """A worker's word on one leg; what cannot be true becomes nothing."""
    return LegTimes(
        sane(times.room_s), sane(times.fetch_s), sane(times.queue_s), sane(times.compute_s)
    )


def sane(value: float) -> float:
    """A worker's number; what cannot be true becomes 0."""
    return value if math.isfinite(value) and value > 0 else 0.0


def error_of(ended: pb.Ended) -> BatonError:
    """Why a worker ended a leg. A reason this version does not know becomes INTERNAL."""
    error = BatonError.from_wire({"reason": ended.reason, "message": ended.message})
    error.retry_after_s = ended.retry_after_s or None
    return error


def _ticket(handoff: Handoff | None, deadline_s: float, peer: bytes) -> pb.Ticket | None:
    if handoff is None:
        return None
    return pb.Ticket(
        ticket_id=handoff.ticket_id,
        epoch=handoff.epoch,
        deadline_s=deadline_s,
        handed=handoff.handed,
        peer=peer,
    )
