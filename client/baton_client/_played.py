"""What `FakeBaton` answers: prompts in words, scripts in messages."""

import threading
import time
from dataclasses import dataclass, field

import grpc

from baton_client.answers import FinishReason
from baton_client.errors import BatonError
from baton_client.prompts import new_id
from baton_client.v1 import service_pb2 as pb

MODEL = "fake-model"
MAX_MODEL_LEN_TOKENS = 4096
# A call whose answer is to be read by another holds a thread that the other may need.
_OFFERED_MAX = 32
_GRANT_S = 10.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Script:
    """What one call does: pieces, each after a delay, and then an end or an error."""

    pieces: tuple[str, ...] | None = None
    delay_s: float = 0.0
    finish_reason: FinishReason = FinishReason.STOP
    error: BatonError | None = None


@dataclass(eq=False)
class Answer:
    """One that is read directly."""

    request: pb.GenerateRequest
    script: Script
    grant: bytes = field(default_factory=lambda: new_id().encode())
    over: threading.Event = field(default_factory=threading.Event)
    whole: bool = False


class Offers:
    """The answers that wait to be read directly, a few at a time; from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Answer] = {}
        self._lock = threading.Lock()

    def offer(self, answer: Answer) -> Answer | None:
        """The answer, which waits now; None where enough wait already."""
        with self._lock:
            if len(self._waiting) >= _OFFERED_MAX:
                return None
            self._waiting[answer.grant] = answer
            return answer

    def take(self, grant: bytes) -> Answer | None:
        """The answer, once."""
        with self._lock:
            return self._waiting.pop(grant, None)

    def read(self, answer: Answer, context: grpc.ServicerContext) -> bool:
        """Wait for it to be read; whether it was, to its end. Nobody is waited for for ever."""
        ends_at = time.monotonic() + _GRANT_S
        while not answer.over.wait(_LOOK_S) and context.is_active():
            if time.monotonic() >= ends_at and self.take(answer.grant):
                break
        self.take(answer.grant)
        return answer.whole


def words(prompt: pb.Prompt) -> list[str]:
    """The last text of a prompt in words that join to it, or its ids."""
    if prompt.WhichOneof("kind") == "token_ids":
        return [f" {token}" for token in prompt.token_ids.ids]
    messages = prompt.conversation.messages
    words = (messages[-1].content if messages else prompt.text).split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def cut(
    request: pb.GenerateRequest, script: Script
) -> "tuple[list[str], pb.FinishReason.ValueType]":
    """The pieces of an answer within `max_tokens`, and why it ends."""
    # An answer without text still has a message that ends it.
    pieces = words(request.prompt) if script.pieces is None else list(script.pieces) or [""]
    sampling = request.sampling
    if sampling.HasField("max_tokens") and sampling.max_tokens < len(pieces):
        return pieces[: sampling.max_tokens], pb.FINISH_REASON_LENGTH
    return pieces, pb.FinishReason.Value(f"FINISH_REASON_{script.finish_reason.name}")


def response(
    request: pb.GenerateRequest, place: int, text: str, reason: "pb.FinishReason.ValueType"
) -> pb.GenerateResponse:
    """One message: the same piece for each choice."""
    chosen = pb.TokenLogprobs(chosen=pb.TokenLogprob(token_id=place, text=text))
    deltas = [
        pb.Delta(
            index=index,
            text=text,
            tokens=1,
            token_ids=[place] if request.return_token_ids else [],
            logprobs=[chosen] if request.sampling.HasField("logprobs") else [],
            finish_reason=reason,
        )
        for index in range(request.sampling.n or 1)
    ]
    return pb.GenerateResponse(deltas=deltas)


def last(request: pb.GenerateRequest, pieces: int) -> pb.GenerateResponse:
    """The message that ends a call."""
    tokens = pieces * (request.sampling.n or 1)
    usage = pb.Usage(prompt_tokens=len(words(request.prompt)), completion_tokens=tokens)
    parts = [f.name for f in pb.Timing.DESCRIPTOR.fields if f.name != "ttft_s"]
    timing = pb.Timing(ttft_s=0.001 * len(parts), **dict.fromkeys(parts, 0.001))
    return pb.GenerateResponse(usage=usage, timing=timing)
