"""What comes back: pieces, whole answers, usage and times."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from baton_client.errors import ServerError
from baton_client.v1 import service_pb2 as pb


class FinishReason(StrEnum):
    """Why a choice ended."""

    STOP = "stop"
    LENGTH = "length"
    REPETITION = "repetition"
    OTHER = "other"
    """One that this version of the client does not know."""


_FINISH_REASONS: dict[int, FinishReason] = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_REPETITION: FinishReason.REPETITION,
}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Position:
    """Log-probabilities at one position: of the chosen token and of the likeliest ones."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one choice has grown by. `str(piece)` is its text.

    `tokens` counts the tokens in it; `finish_reason` is set in the choice's last piece.
    """

    index: int
    text: str
    tokens: int
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Position, ...] = ()
    finish_reason: FinishReason | None = None
    stop_text: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole answer. `finish_reason` is None only in `Stream.so_far`."""

    index: int
    text: str
    tokens: int
    token_ids: tuple[int, ...]
    logprobs: tuple[Position, ...]
    finish_reason: FinishReason | None
    stop_text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request; `completion_tokens` counts all choices together."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time to the first token went inside the cluster, in seconds.

    `ttft_s` is the sum of the other parts.
    """

    ttft_s: float
    admission_queue_s: float
    prefill_queue_s: float
    prefill_compute_s: float
    exposed_transfer_s: float
    decode_queue_s: float
    first_decode_step_s: float
    delivery_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. `text` and `finish_reason` are those of the first choice.

    `timing` is the cluster's split, None where it was not measured; `ttft_s` (until the first
    piece, None without one) and `total_s` are this client's own, retries included, in seconds.
    Until the cluster has told `usage`, it has just the completion tokens that have arrived.
    `attempts` counts how often the request was made.
    """

    request_id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    timing: Timing | None
    ttft_s: float | None
    total_s: float
    attempts: int = 1

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text if self.choices else ""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of a prompt. `token_ids` is empty unless asked for."""

    tokens: int
    token_ids: tuple[int, ...]
    max_model_len_tokens: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Model:
    """A served model; `max_model_len_tokens` bounds prompt and answer together."""

    name: str
    max_model_len_tokens: int
    can_generate: bool
    can_embed: bool


@dataclass(slots=True)
class _Growing:
    """A choice that is not whole yet."""

    pieces: list[Piece] = field(default_factory=list)

    def choice(self, index: int) -> Choice:
        last = self.pieces[-1]
        return Choice(
            index=index,
            text="".join(piece.text for piece in self.pieces),
            tokens=sum(piece.tokens for piece in self.pieces),
            token_ids=tuple(token for piece in self.pieces for token in piece.token_ids),
            logprobs=tuple(position for piece in self.pieces for position in piece.logprobs),
            finish_reason=last.finish_reason,
            stop_text=last.stop_text,
        )


class Answer:
    """An answer as it grows. Times are readings of one clock, in seconds."""

    def __init__(self, choices: int = 1) -> None:
        self._started: float | None = None
        self._choices = choices
        self._first: float | None = None
        self._growing: dict[int, _Growing] = {}
        self._usage: Usage | None = None
        self._timing: Timing | None = None
        self._before = 0
        self.request_id = ""
        self.model = ""

    @property
    def begun(self) -> bool:
        """Whether a piece has arrived."""
        return bool(self._growing)

    @property
    def finished(self) -> bool:
        """Whether the only choice has its last piece."""
        last = self._growing[0].pieces[-1] if 0 in self._growing else None
        return self._choices == 1 and last is not None and last.finish_reason is not None

    def start(self, now: float) -> None:
        """Note that it is asked for, the first time or again."""
        if self._started is None:
            self._started = now

    def add(self, message: pb.GenerateResponse, now: float) -> list[Piece]:
        """Take a message; its pieces."""
        self.request_id = message.request_id or self.request_id
        self.model = message.model or self.model
        if message.HasField("usage"):
            self._usage = usage(message.usage, self._before)
        if message.HasField("timing"):
            self._timing = timing(message.timing)
        pieces = [piece(delta) for delta in message.deltas]
        for new in pieces:
            self._growing.setdefault(new.index, _Growing()).pieces.append(new)
        if pieces and self._first is None:
            self._first = now
        return pieces

    def resume(self) -> tuple[int, ...]:
        """The tokens that have arrived: another call goes on behind them, and counts its own."""
        tokens = self._growing[0].choice(0).token_ids if self._growing else ()
        self._before = len(tokens)
        return tokens

    def so_far(self, now: float, attempts: int) -> Completion:
        """What has arrived, whole or not."""
        choices = [self._growing[index].choice(index) for index in sorted(self._growing)]
        started = now if self._started is None else self._started
        first_s = None if self._first is None else self._first - started
        times = (self._timing, first_s, now - started)
        used = self._usage or Usage(completion_tokens=sum(choice.tokens for choice in choices))
        return Completion(self.request_id, self.model, tuple(choices), used, *times, attempts)

    def whole(self, now: float, attempts: int) -> Completion:
        """The answer, once the call has ended well. Raises ServerError where some is missing."""
        done = self.so_far(now, attempts)
        finished = [choice for choice in done.choices if choice.finish_reason is not None]
        if len(finished) < max(self._choices, len(done.choices)):
            reason, text = "incomplete_answer", "the stream ended before the answer did"
            raise ServerError(text, reason=reason, request_id=self.request_id)
        return done


def piece(delta: pb.Delta) -> Piece:
    """A piece of the answer, read from its message."""
    return Piece(
        delta.index,
        delta.text,
        delta.tokens,
        tuple(delta.token_ids),
        tuple(map(_position, delta.logprobs)) if delta.logprobs else (),
        _finish_reason(delta.finish_reason) if delta.finish_reason else None,
        delta.stop_text,
    )


def usage(message: pb.Usage, before: int = 0) -> Usage:
    """Token counts, read from their message; `before` are tokens of the answer from other calls."""
    generated = before + message.completion_tokens
    return Usage(message.prompt_tokens, message.cached_prompt_tokens, generated)


def timing(message: pb.Timing) -> Timing:
    """The TTFT split, read from its message."""
    return Timing(**{name: getattr(message, name) for name in Timing.__slots__})


def vectors(embeddings: Sequence[pb.Embedding]) -> tuple[tuple[float, ...], ...]:
    """The vectors of some texts."""
    return tuple(tuple(embedding.values) for embedding in embeddings)


def _finish_reason(number: int) -> FinishReason:
    return _FINISH_REASONS.get(number, FinishReason.OTHER)


def _token(message: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(message.token_id, message.text, message.logprob)


def _position(message: pb.TokenLogprobs) -> Position:
    return Position(_token(message.chosen), tuple(map(_token, message.top)))
