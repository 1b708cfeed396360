"""Front-end processes, any number, as one front end of the heart.

Of a step's outputs nothing is touched but the names of requests: they are sorted by front end and
sent on. Requests keep the bytes that they came in.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from baton.errors import BatonError, Reason
from baton.ids import REQUEST_ID_CHARS_MAX, RequestId
from baton.spans import TRACEPARENT, context_of
from router.caller import Caller
from router.engine_link import BROKEN, ERROR, EngineLink, FrontEnd, ModelLimits
from router.engine_request import engine_request
from router.gathering import EVENTS, FINISH, NAME, TOKENS
from router.http_guard import refuse_transfer_fields
from router.policy.tenants import Priority
from router.ports import HeartPort
from router.tracing import Tracing

_log = logging.getLogger(__name__)
_BROKEN = (
    msgspec.MsgspecError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a mistake in taking one request raises: the others go on."""


@dataclass(slots=True)
class _Open:
    """One request of a front end."""

    link: EngineLink
    name: str
    """As the front end calls it."""
    tokens: list[int] = field(default_factory=list)
    """Those of its answer that were sent, or wait to be."""
    came_at: float = -math.inf
    """When the last of them came, by the event loop's clock."""


class EngineLinks:
    """Front-end processes, any number, as one front end; implements `router.ports.FrontPort`.

    Belongs to one event loop. `on_lost` hears the name of a front end that is given up. With
    `own_caches` each tenant reuses the KV of its own prompts only.
    """

    def __init__(
        self,
        heart: HeartPort,
        tracing: Tracing | None = None,
        on_lost: Callable[[str], None] = lambda _name: None,
        *,
        own_caches: bool = False,
    ) -> None:
        self._heart = heart
        self._tracing = tracing
        self._on_lost = on_lost
        self._own_caches = own_caches
        self._context: zmq.Context[Any] = zmq.Context()
        self._links: dict[str, EngineLink] = {}
        self._open: dict[RequestId, _Open] = {}
        self._max_model_len_tokens = 0

    @property
    def open(self) -> Collection[RequestId]:
        """Requests of all front ends."""
        return self._open

    @property
    def attached(self) -> tuple[str, ...]:
        """Names of the front ends."""
        return tuple(self._links)

    def attach(self, front_end: FrontEnd, limits: ModelLimits) -> None:
        """Connects to a front end, which may start to listen later, and takes its requests."""
        self.limit(limits.max_model_len_tokens)
        link = EngineLink(front_end, self._context, self)
        self._links[front_end.name] = link
        link.ready(limits)

    def detach(self, name: str) -> None:
        """Forgets a front end and aborts its requests. Unknown names are ignored."""
        link = self._links.pop(name, None)
        if link is None:
            return
        link.close()
        left = [request_id for request_id, one in self._open.items() if one.link is link]
        for request_id in left:
            del self._open[request_id]
        if left:
            self._heart.abort(left)

    def limit(self, max_model_len_tokens: int) -> None:
        """Longer prompts are refused; the front ends know only what was true at their start."""
        self._max_model_len_tokens = max_model_len_tokens

    def close(self) -> None:
        """Forgets all front ends."""
        for name in self.attached:
            self.detach(name)
        self._context.destroy(linger=0)

    # --- what the front ends say ------------------------------------------------------------------

    def add(self, link: EngineLink, request: Any, payload: list[bytes]) -> None:
        """Takes a request, or ends it with what refuses it."""
        name = request.request_id
        request_id = _request_id(link, name)
        if request_id in self._open:
            _log.error("a front end names two requests alike", extra={"request_id": request_id})
            # Whoever waits cannot tell their outputs apart: both end.
            self.drop(link, [name])
            message = f"There is a request {name[:80]!r} already."
            return link.send_failure(name, BatonError(Reason.INVALID_REQUEST, message))
        self._open[request_id] = _Open(link, name)
        try:
            self._check(request)
            self._submit(link, request, payload)
        except BatonError as error:
            self.fail(request_id, error)
        except _BROKEN as error:
            _log.exception("a front end's request failed", extra={"request_id": request_id})
            self._heart.abort([request_id])
            self.fail(request_id, BatonError(Reason.INTERNAL, f"It was not taken: {error}"))

    def drop(self, link: EngineLink, names: Iterable[str]) -> None:
        """Aborts requests of a front end."""
        request_ids = [_request_id(link, name) for name in names]
        known = [one for one in request_ids if self._open.pop(one, None) is not None]
        if known:
            self._heart.abort(known)

    def lose(self, link: EngineLink, why: str) -> None:
        """Gives a front end up."""
        name = link.front_end.name
        if self._links.get(name) is link:
            _log.warning("lost a front end", extra={"front_end": name, "cause": why})
            self.detach(name)
            self._on_lost(name)

    def _submit(self, link: EngineLink, request: Any, payload: list[bytes]) -> None:
        asked = context_of((request.trace_headers or {}).get(TRACEPARENT, ""))
        trace = None if self._tracing is None else self._tracing.begin(asked)
        buffers: Sequence[Any] = payload
        tenant, own = link.front_end.tenant, self._own_caches
        caller = Caller(tenant, _priority(request.priority), trace=asked, own_cache=own)
        request.cache_salt = caller.cache_salt(request.cache_salt)
        if trace is not None:
            request.trace_headers = trace.headers
        if trace is not None or own:
            buffers = link.encode(request)
        request.request_id = _request_id(link, request.request_id)
        self._heart.submit(engine_request(request, buffers, trace, caller))

    def _check(self, request: Any) -> None:
        """Raises BatonError for what is not served."""
        if len(request.request_id) > REQUEST_ID_CHARS_MAX:
            message = f"The request's id has more than {REQUEST_ID_CHARS_MAX} characters."
            raise BatonError(Reason.INVALID_REQUEST, message, param="request_id")
        for what, asked in (
            ("Pooling", request.sampling_params is None),
            ("LoRA", request.lora_request is not None),
            (
                "Anything but a text prompt",
                bool(request.mm_features) or not request.prompt_token_ids,
            ),
            ("Input that goes on", request.resumable),
        ):
            if asked:
                raise BatonError(Reason.UNSUPPORTED, f"{what} is not supported.")
        refuse_transfer_fields(request.sampling_params.extra_args or {})
        tokens, most = len(request.prompt_token_ids), self._max_model_len_tokens
        if most and tokens >= most:
            raise BatonError(
                Reason.INVALID_REQUEST, f"{tokens} prompt tokens given; allowed: below {most}"
            )

    # --- what the heart calls ---------------------------------------------------------------------

    def deliver(
        self, buffers: Sequence[bytes], requests: dict[str, RequestId]
    ) -> Sequence[RequestId]:
        """One engine step's outputs; see `router.ports.FrontPort`."""
        try:
            outputs = msgspec.msgpack.decode(buffers[0])[1]
        except msgspec.MsgspecError as error:
            return self._fail_all(requests, f"an engine's outputs cannot be read: {error}")
        beside = buffers[1:]
        # What is gathered knows nothing of buffers of a later message.
        for link in tuple(self._links.values()) if beside else ():
            link.flush()
        touched: set[EngineLink] = set()
        now = asyncio.get_running_loop().time()
        finished: list[RequestId] = []
        for output in outputs:
            request_id = requests.get(output[NAME])
            one = None if request_id is None else self._open.get(request_id)
            if one is None:
                continue
            if not one.tokens:
                # By the engine's clock, which may be another machine's.
                output[EVENTS] = None
            if (reason := output[FINISH]) is not None:
                assert request_id is not None
                finished.append(request_id)
                del self._open[request_id]
                if reason in BROKEN:
                    output[FINISH] = ERROR
            output[NAME] = one.name
            one.tokens += output[TOKENS]
            one.link.gather(output, now - one.came_at)
            one.came_at = now
            touched.add(one.link)
        for link in touched:
            link.send_soon(beside)
        return finished

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        """Ends a request; all that a front end is told is that it failed, and why in words."""
        one = self._open.pop(request_id, None)
        if one is not None:
            one.link.send_failure(one.name, error)

    def sent(self, request_id: RequestId) -> Sequence[int]:
        """The tokens that its front end was sent."""
        one = self._open.get(request_id)
        return () if one is None else tuple(one.tokens)

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        """Counts them."""
        one = self._open.get(request_id)
        return int if one is None else one.tokens.__len__

    def _fail_all(self, requests: dict[str, RequestId], message: str) -> Sequence[RequestId]:
        _log.error("%s", message)
        failed = [one for one in dict.fromkeys(requests.values()) if one in self._open]
        self._heart.abort(failed)
        for request_id in failed:
            self.fail(request_id, BatonError(Reason.ENGINE_FAILED, message))
        return failed


def _request_id(link: EngineLink, name: str) -> RequestId:
    """Front ends choose their names without each other."""
    return RequestId(f"{link.front_end.name}/{name}")


def _priority(value: int) -> Priority:
    """vLLM's number, of which smaller is sooner, as a priority: 0 high, 1 normal, above it low."""
    return Priority(max(Priority.HIGH - max(value, 0), Priority.LOW))
