"""What the heart asks of whoever chooses workers, and the words it gets back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from baton.costs import DecodeCurve, PrefillCurve
from baton.errors import BatonError, Reason
from baton.ids import RequestId, WorkerId
from baton.wire import worker_pb2 as pb
from router.life import PlaceAgain
from router.peer import Peer
from router.policy.admission import Ahead
from router.policy.types import Plan
from router.ports import NO_ROUTE, EngineRequest, Route

SAME_WORKER = frozenset({Reason.WORKER_LOST, Reason.TRANSFER_FAILED, Reason.ENGINE_FAILED})
"""What need not happen again on the same worker, if there is no other."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """This request is served according to this plan."""

    request_id: RequestId
    plan: Plan
    route: Route = NO_ROUTE


@dataclass(frozen=True, slots=True)
class Kept:
    """This request waits in the router; `why` is for its story."""

    request_id: RequestId
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody can serve this request any more."""

    request_id: RequestId
    error: BatonError


@dataclass(frozen=True, slots=True)
class Tell:
    """This message goes to this worker."""

    worker_id: WorkerId
    message: pb.RouterMessage


Word: TypeAlias = Chosen | Kept | Refused | Tell


class Planner(Protocol):
    """Chooses workers, at once or later. Belongs to one router; never blocks."""

    def plan(self, request: EngineRequest, now: float) -> Sequence[Word]:
        """A new request. Raises BatonError when nobody can serve it: then it is not kept."""

    def again(self, request: EngineRequest, command: PlaceAgain, now: float) -> Sequence[Word]:
        """A worker has sent the request back, or is lost. Raises BatonError as `plan` does."""

    def prefilled(self, request_id: RequestId, cached_tokens: int, now: float) -> None:
        """A prefill worker has computed the prompt, of which it held so many tokens."""

    def left(self, request_id: RequestId) -> None:
        """The request has ended, however."""

    def follow(self, peers: Iterable[Peer], gone: Iterable[Peer]) -> None:
        """The cluster has changed."""

    def lost(self, peer: Peer, now: float) -> Sequence[Word]:
        """The link to a worker is gone, and what was known through it."""

    def heard(self, peer: Peer, frame: pb.StepFrame, now: float) -> Sequence[Word]:
        """A worker has said something."""

    def tick(self, now: float) -> Sequence[Word]:
        """Time has passed."""

    def ahead(self, now: float) -> Ahead:
        """What stands before a prompt that comes now, as far as it is known."""

    def costs(self, peer: Peer) -> tuple[PrefillCurve | None, DecodeCurve | None]:
        """What work costs on a worker by its own measurements; None = it has none yet."""

    def figures(self, now: float) -> dict[str, Any]:
        """What it knows, in what JSON can hold."""
