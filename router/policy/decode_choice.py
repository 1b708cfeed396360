"""Which decode worker a request joins: predicted TPOT, room for its KV, prefix, link.

The caller supplies one `DecodeWorker` per worker that takes requests, from its load report and what
was sent there since. Joining a batch slows everybody in it, so the worker that stays fastest with
one request more is best, as long as prompt and expected output fit without preempting somebody.
A prefix that is already there, and a nearer link, save transfer: they count as time, spread over
the tokens that will be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from baton.ids import WorkerId


class Link(StrEnum):
    """How KV gets from the prefill worker to a decode worker."""

    HOST = "host"
    RDMA = "rdma"
    NETWORK = "network"


_SLOWER: dict[Link, float] = {Link.HOST: 1.0, Link.RDMA: 1.0, Link.NETWORK: 3.0}
"""Transfer times relative to the fitted one until a link has been measured by itself."""


class DecodeWhy(StrEnum):
    """What decided."""

    FASTEST = "fastest"
    """The lowest predicted time per output token, transfer included."""
    ONLY_ROOM = "only_room"
    """The only one with room for the KV."""
    NO_ROOM = "no_room"
    """None has room: the one with the most."""


class Costs(Protocol):
    """What is expected of a worker: a fit, or the curve drawn from it."""

    def decode_step_s(self, batch: float, kv_tokens: float) -> float: ...

    def transfer_s(self, tokens: float) -> float: ...


class DecodeWorker(NamedTuple):
    """One decode worker as the router knows it."""

    worker_id: WorkerId
    costs: Costs
    batch: int
    """Requests that generate there, or will in a moment."""
    kv_tokens: int
    """Tokens of KV in use or promised."""
    kv_tokens_max: int
    cached_tokens: int = 0
    """Of this prompt."""
    link: Link = Link.HOST


@dataclass(frozen=True, slots=True)
class DecodeCandidate:
    """One worker as it was weighed."""

    worker_id: WorkerId
    tpot_s: float
    transfer_s: float
    room_tokens: int
    """What stays free once the output has been generated; negative: it would have to preempt."""
    cached_tokens: int = 0
    """Of this prompt."""


@dataclass(frozen=True, slots=True)
class DecodeChoice:
    """The explanation record of one decision."""

    worker_id: WorkerId
    why: DecodeWhy
    candidates: tuple[DecodeCandidate, ...]


def choose(
    workers: Sequence[DecodeWorker], prompt_tokens: int, output_tokens: int
) -> DecodeChoice | None:
    """The worker that the request joins; None when there is none. `output_tokens` is expected."""
    weighed = tuple(_weigh(w, prompt_tokens, output_tokens) for w in workers)
    if not weighed:
        return None
    fitting = [c for c in weighed if c.room_tokens >= 0]
    if not fitting:
        roomiest = max(weighed, key=lambda c: (c.room_tokens, c.worker_id))
        return DecodeChoice(roomiest.worker_id, DecodeWhy.NO_ROOM, weighed)
    output = max(output_tokens, 1)
    best = min(
        fitting, key=lambda c: (c.tpot_s + c.transfer_s / output, -c.room_tokens, c.worker_id)
    )
    crowded = len(fitting) == 1 < len(weighed)
    return DecodeChoice(
        best.worker_id, DecodeWhy.ONLY_ROOM if crowded else DecodeWhy.FASTEST, weighed
    )


def _weigh(worker: DecodeWorker, prompt_tokens: int, output_tokens: int) -> DecodeCandidate:
    """Halfway through its output is where a request's average step is."""
    new = max(prompt_tokens - worker.cached_tokens, 0)
    kv_tokens = worker.kv_tokens + new + output_tokens / 2
    return DecodeCandidate(
        worker.worker_id,
        worker.costs.decode_step_s(worker.batch + 1, kv_tokens),
        worker.costs.transfer_s(new) * _SLOWER[worker.link],
        worker.kv_tokens_max - worker.kv_tokens - new - output_tokens,
        worker.cached_tokens,
    )
