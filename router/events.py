"""What workers and planners say, as events of a request's life."""

from __future__ import annotations

from baton.errors import BatonError
from baton.ids import WorkerId, parse_leg_id
from baton.wire import worker_pb2 as pb
from router import life, wire
from router.flow import IllegalTransitionError
from router.peer import Peer

FAULTS = (
    IllegalTransitionError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a fault in the flow can look like; each of them ends one request and nothing else."""


def prefilled(peer: Peer, news: pb.Prefilled, now: float) -> life.Prefilled:
    """A prefill leg is complete."""
    return life.Prefilled(
        cause=f"{peer.info.worker_id} reported",
        at_s=now,
        leg_id=parse_leg_id(news.leg_id),
        handed=news.handed,
        cached_tokens=news.cached_tokens,
        times=wire.times_of(news.times),
    )


def tokens_came(peer: Peer, news: pb.Prefilled, now: float) -> life.TokensCame:
    """The leg that answers has its first output."""
    cause = f"{peer.info.worker_id} reported"
    return life.TokensCame(cause=cause, at_s=now, times=wire.times_of(news.times))


def leg_ended(peer: Peer, news: pb.Ended, now: float) -> life.LegEnded:
    """A worker refused a leg or gave it up."""
    error = wire.error_of(news)
    return life.LegEnded(
        cause=f"{peer.info.worker_id} reported",
        at_s=now,
        leg_id=parse_leg_id(news.leg_id),
        reason=error.reason,
        message=error.message,
        retry_after_s=error.retry_after_s,
    )


def finished(state: life.FlowState, peer: Peer, now: float, *, engine_done: bool) -> life.Event:
    """An answer is complete; `engine_done`: see `life.Finished`."""
    cause = f"frame of {peer.info.worker_id}"
    if state.phase in life.ANSWERING:
        return life.Finished(cause=cause, at_s=now, engine_done=engine_done)
    # A sibling (n > 1) that is not so far as to answer.
    return life.ClientLeft(cause=cause, at_s=now)


def lost(worker_id: WorkerId, why: str, now: float) -> life.WorkerLost:
    """A worker is out of reach."""
    return life.WorkerLost(cause=why, at_s=now, worker_id=worker_id)


def unplaced(error: BatonError, now: float) -> life.Unplaced:
    """Nobody can serve it any more."""
    return life.Unplaced(
        cause="nobody can serve it",
        at_s=now,
        reason=error.reason,
        message=error.message,
        retry_after_s=error.retry_after_s,
    )


def error_of(failed: life.Fail) -> BatonError:
    """What a front end is told."""
    return BatonError(failed.reason, failed.message, retry_after_s=failed.retry_after_s)
