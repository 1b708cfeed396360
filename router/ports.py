"""The seams of the router: what a front end gives the heart, and what it gets back.

A front end is whatever turns text into tokens and back. It sees the cluster as one engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from baton.errors import BatonError
from baton.ids import RequestId
from router.caller import ANYBODY, Caller
from router.exchange import Exchange
from router.tracing import Trace

_OUTPUT_TOKENS = 256
"""Expected of a request that allows more; most answers end by themselves."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as the heart sees it: opaque to everything but front ends and workers."""

    request_id: RequestId
    payload: tuple[bytes, ...]
    """An EngineCoreRequest, encoded once; both legs get the same bytes."""
    prompt_tokens: int
    max_tokens: int
    may_disaggregate: bool = True
    """False for requests whose answer needs the prompt's own logits (prompt logprobs)."""
    deadline_s: float | None = None
    """Seconds the client gives it; None means the router's own limit."""
    tokens: Sequence[int] = ()
    """The prompt; empty where it is not known, which costs the prefix cache."""
    cache_salt: str = ""
    """Only requests of the same salt may share KV."""
    caller: Caller = ANYBODY
    trace: Trace | None = None
    """Its span, where it is traced."""
    resumable: bool = True
    """Whether another engine can go on after tokens that one has generated."""
    exchange: Exchange | None = None
    """How it came and how its answer leaves, where the front end can tell."""
    direct: bool = False
    """Whether the client reads the answer from the decode worker, if that serves clients."""
    sent: tuple[int, ...] = ()
    """Tokens of the answer that the client brought with it."""

    @property
    def output_tokens(self) -> int:
        """Tokens it is expected to generate."""
        return min(self.max_tokens, _OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Route:
    """What goes with the legs of a plan besides the request."""

    blocks: tuple[int, ...] = ()
    """Keys of the prompt's full KV blocks."""
    work_s: float = 0.0
    """What computing the prompt is expected to take where it is computed."""
    queue_max_s: float = 0.0
    """The prefill worker is to refuse when its queue is longer; 0 = never."""
    resumed: tuple[int, ...] = ()
    """Tokens of the answer that the client has already."""
    grant: bytes = field(default=b"", repr=False)
    """What the client shows the decode worker; empty where the answer comes through the router."""


NO_ROUTE = Route()


class FrontPort(Protocol):
    """What the heart calls on a front end. Neither call may block or raise."""

    def deliver(
        self, buffers: Sequence[bytes], requests: dict[str, RequestId]
    ) -> Sequence[RequestId]:
        """One engine step's outputs, encoded; `requests` maps each leg id inside to its request.

        Outputs of leg ids that are not in `requests` are to be ignored. Returns the requests that
        these outputs finished, so that the heart can close them.
        """

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        """The request ended without a (further) token."""

    def sent(self, request_id: RequestId) -> Sequence[int]:
        """The tokens of its answer that were delivered so far."""

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        """Says how many those are, also after its end."""


class HeartPort(Protocol):
    """What a front end calls on the heart."""

    def admit(self, sequences: int = 1, caller: Caller = ANYBODY) -> None:
        """Raise BatonError if that many more sequences cannot be taken now."""

    def submit(self, request: EngineRequest) -> None:
        """Take over a request; from here on it ends in `deliver` or `fail`, exactly once.

        Raises BatonError when it is refused: then it was never taken.
        """

    def abort(self, request_ids: Sequence[RequestId]) -> None:
        """Forget these requests and free both ends. Unknown ids are ignored."""
