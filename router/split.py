"""Where the time to a request's first token went, and the time per token after it. Pure.

Two kinds of readings meet here. The router's clock says when a request came, when its legs were
sent, when they were heard of and when its first token was written. A worker's clock says how long
a leg waited and computed there: durations only, laid out on the router's clock from the moment at
which the leg was sent. Readings of two clocks are never compared.

The rule for what neither explains. Between a leg's sending and its news lie its durations and a
remainder: the way there, the way back, frames that wait for a busy router. The remainder counts
* for the leg that answers, to `delivery`;
* for a prefill leg whose decode leg is sent after it, to `exposed_transfer`: it delays the handing
  over and nothing else;
* for a prefill leg that runs beside its decode leg, to nothing: nobody waits for that news.
An attempt that fails before the first token counts to `prefill_queue` until its prompt is known to
be computed, then to `exposed_transfer`, and from its end on to `admission_queue` again. Durations
that contradict what the router saw later give way to it: no part is negative, and the sum is the
time that passed on the router's clock, always.

`admission_queue` begins when the request's first bytes are read and has everything that happens in
the router before a worker gets it: reading, rendering and tokenising, limits, questions to workers,
waiting for one. Where nothing is streamed, the first token counts as written when its frame came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from baton.ids import Leg
from baton.messages import NO_TIMES, LegTimes
from router.life import Entry, PlaceAgain, Prefilled, SubmitLeg, TokensCame


class Part(StrEnum):
    """The parts of the time to the first token, in the order in which they come."""

    ADMISSION_QUEUE = "admission_queue"
    PREFILL_QUEUE = "prefill_queue"
    PREFILL_COMPUTE = "prefill_compute"
    EXPOSED_TRANSFER = "exposed_transfer"
    DECODE_QUEUE = "decode_queue"
    FIRST_DECODE_STEP = "first_decode_step"
    DELIVERY = "delivery"


PROMPT_PARTS = frozenset({Part.PREFILL_QUEUE, Part.PREFILL_COMPUTE})
"""What happens where the prompt is computed."""
WORKER_PARTS = PROMPT_PARTS | {
    Part.EXPOSED_TRANSFER,
    Part.DECODE_QUEUE,
    Part.FIRST_DECODE_STEP,
}
"""What happens on workers; what is not of the prompt, on the one that answers."""


class TokenPart(StrEnum):
    """The parts of the time per output token."""

    STEP = "step"
    FRAME_WAIT = "frame_wait"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a request's life; the next one begins where it ends."""

    part: Part
    seconds: float


@dataclass(frozen=True, slots=True)
class Split:
    """The time from a request's coming to its first token.

    `spans` in their order, without gaps. A part may occur several times or not at all.
    """

    arrived_at: float
    """In seconds of the router's clock."""
    spans: tuple[Span, ...]

    def seconds(self, part: Part) -> float:
        """All of one part."""
        return sum(span.seconds for span in self.spans if span.part is part)

    @property
    def total_s(self) -> float:
        """From coming to the first token."""
        return sum(span.seconds for span in self.spans)

    def told(self) -> str:
        """One line for people, milliseconds."""
        rows = ", ".join(f"{part.value} {1e3 * self.seconds(part):.1f}" for part in Part)
        return f"first token after {1e3 * self.total_s:.1f} ms: {rows}"

    def header(self) -> str:
        """Milliseconds in the syntax of a Server-Timing header."""
        return ", ".join(f"{part.value};dur={1e3 * self.seconds(part):.3f}" for part in Part)


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """The time per output token after the first one, seconds.

    The mean over a request. `step`: what the engine's steps took meanwhile by its worker's clock.
    `frame_wait`: what the router waited longer than that for the frames, with the pause of an
    answer that was resumed. `write`: by how much the last token was behind its frame more than the
    first one. What overlaps the engine's next step costs no time and shows in none.
    """

    step: float
    frame_wait: float
    write: float

    def seconds(self, part: TokenPart) -> float:
        """One part."""
        found: float = getattr(self, part.value)
        return found


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to serve a request, in seconds of the router's clock."""

    number: int
    sent_at: float
    apart: bool
    """Whether its prompt is computed elsewhere than its answer."""
    decode_at: float
    prompt: LegTimes | None = None
    """The prefill leg's, once it has told."""
    failed_at: float | None = None


_Cut = tuple[Part, float]
"""Until when a part goes on."""


def stitch(arrived_at: float, log: Sequence[Entry], written_at: float | None) -> Split | None:
    """The split of a request with this log; None before its first token.

    `written_at` is when that token was written, None where nothing is streamed.
    """
    first = next((e.event for e in log if isinstance(e.event, TokensCame)), None)
    attempts = _attempts(log)
    if first is None or not attempts:
        return None
    cuts = [cut for attempt in attempts[:-1] for cut in _failed(attempt)]
    cuts += _answered(attempts[-1], first.times)
    end = first.at_s if written_at is None else max(written_at, first.at_s)
    return Split(arrived_at, _spans(arrived_at, [*cuts, (Part.DELIVERY, end)]))


def _attempts(log: Iterable[Entry]) -> list[_Attempt]:
    """Those up to the first token, the last one with what was heard of it later."""
    found: list[_Attempt] = []
    came = False
    for entry in log:
        event = entry.event
        came = came or isinstance(event, TokensCame)
        if isinstance(event, Prefilled) and found and event.leg_id.attempt == found[-1].number:
            found[-1] = replace(found[-1], prompt=event.times)
        for command in () if came else entry.commands:
            if isinstance(command, SubmitLeg):
                _sent(found, command, event.at_s)
            elif isinstance(command, PlaceAgain) and found:
                found[-1] = replace(found[-1], failed_at=event.at_s)
    return found


def _sent(found: list[_Attempt], command: SubmitLeg, at: float) -> None:
    if command.kind is not Leg.DECODE:
        found.append(_Attempt(command.leg_id.attempt, at, command.kind is Leg.PREFILL, at))
    elif found:
        found[-1] = replace(found[-1], decode_at=at)


def _failed(attempt: _Attempt) -> list[_Cut]:
    end = attempt.sent_at if attempt.failed_at is None else attempt.failed_at
    if attempt.prompt is None:
        return [(Part.ADMISSION_QUEUE, attempt.sent_at), (Part.PREFILL_QUEUE, end)]
    return [*_until_computed(attempt, attempt.prompt), (Part.EXPOSED_TRANSFER, end)]


def _until_computed(attempt: _Attempt, prompt: LegTimes) -> list[_Cut]:
    queued = attempt.sent_at + prompt.room_s + prompt.fetch_s + prompt.queue_s
    return [
        (Part.ADMISSION_QUEUE, attempt.sent_at),
        (Part.PREFILL_QUEUE, queued),
        (Part.PREFILL_COMPUTE, queued + prompt.compute_s),
    ]


def _answered(attempt: _Attempt, answer: LegTimes) -> list[_Cut]:
    if not attempt.apart:
        return _until_computed(attempt, answer)
    before = _until_computed(attempt, attempt.prompt or NO_TIMES)
    # A short answer may end before its prefill leg has told: KV leaves while it is computed.
    until_landed = Part.EXPOSED_TRANSFER if attempt.prompt else Part.PREFILL_COMPUTE
    handed = max(before[-1][1], attempt.decode_at)
    room = attempt.decode_at + answer.room_s
    landed = room + answer.fetch_s
    scheduled = landed + answer.queue_s
    return [
        *before,
        (Part.EXPOSED_TRANSFER, handed),
        (Part.DECODE_QUEUE, max(handed, room)),
        (until_landed, landed),
        (Part.DECODE_QUEUE, scheduled),
        (Part.FIRST_DECODE_STEP, scheduled + answer.compute_s),
    ]


def _spans(start: float, cuts: Sequence[_Cut]) -> tuple[Span, ...]:
    """From cuts to lengths. Where cuts contradict each other, the later one is right."""
    ends: list[float] = []
    for _, at in reversed(cuts):
        ends.append(max(start, min([at, *ends[-1:]])))
    ends.reverse()
    begins = [start, *ends[:-1]]
    parts = (part for part, _ in cuts)
    spans = (Span(p, e - b) for p, b, e in zip(parts, begins, ends, strict=True))
    return tuple(span for span in spans if span.seconds > 0)


def split_tokens(
    tokens: int, stepped_s: float, received_s: float, written_s: float
) -> TokenSplit | None:
    """The mean per token after the first one; None for answers without a second one.

    From the first token to the last one: `stepped_s` took the engine's steps by the worker's clock,
    `received_s` passed between their frames and `written_s` between their writing, both by the
    router's. The parts add up to `written_s`: where one would be negative, the one before it gives.
    """
    if tokens < 2:
        return None
    whole = max(written_s, 0.0)
    received = min(max(received_s, 0.0), whole)
    stepped = min(max(stepped_s, 0.0), received)
    later = tokens - 1
    return TokenSplit(stepped / later, (received - stepped) / later, (whole - received) / later)
