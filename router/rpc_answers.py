"""The outputs of one request as messages of the gRPC service. Knows outputs by their fields only.

Runs once per message: what has come since the last one is in one output, however many tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from baton_client.v1 import service_pb2 as pb

from router.exchange import Source
from router.split import Part, Split

_ENDS = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "repetition": pb.FINISH_REASON_REPETITION,
}


class Answer:
    """Of one request. `logprobs`: how many of the likeliest tokens; None = none are told.

    `resumed`: tokens that it goes on behind.
    """

    def __init__(
        self, request_id: str, model: str, *, ids: bool, logprobs: int | None, resumed: int = 0
    ) -> None:
        self._first: tuple[str, str] | None = (request_id, model)
        self._ids = ids
        self._resumed = resumed
        self._logprobs = logprobs
        self._usage = pb.Usage()
        self._tokens = 0

    def message(self, output: Any, source: Source | None = None) -> pb.GenerateResponse:
        """What is new in an output (vLLM's RequestOutput).

        With a `source` only where that is read: it counts the tokens and has none of them.
        """
        message = pb.GenerateResponse()
        if self._first is not None:
            message.request_id, message.model = self._first
            self._first, message.resumed_tokens = None, self._resumed
            if source is not None:
                message.route.address, message.route.grant = source.address, source.grant
            self._usage.prompt_tokens = len(output.prompt_token_ids or ())
            self._usage.cached_prompt_tokens = output.num_cached_tokens or 0
        for one in output.outputs:
            self._tokens += len(one.token_ids)
            if source is None:
                self._add(message.deltas.add(), one)
        return message

    def end(self, message: pb.GenerateResponse, split: Split | None) -> None:
        """Makes it the last one. `split`: where the time to the first token went, if known."""
        self._usage.completion_tokens = self._tokens
        message.usage.CopyFrom(self._usage)
        if split is not None:
            message.timing.CopyFrom(timing_of(split))

    def _add(self, delta: pb.Delta, output: Any) -> None:
        delta.tokens = len(output.token_ids)
        delta.text = output.text
        if output.index:
            delta.index = output.index
        if self._ids:
            delta.token_ids.extend(output.token_ids)
        if self._logprobs is not None and output.logprobs:
            delta.logprobs.extend(_scored(output.token_ids, output.logprobs, self._logprobs))
        if output.finish_reason is not None:
            delta.finish_reason = _ENDS[output.finish_reason]
            if isinstance(output.stop_reason, str):
                delta.stop_text = output.stop_reason


def timing_of(split: Split) -> pb.Timing:
    """The split of the first token, seconds."""
    parts = {f"{part.value}_s": split.seconds(part) for part in Part}
    return pb.Timing(ttft_s=split.total_s, **parts)


def _scored(
    tokens: Iterable[int], positions: Iterable[Any], most: int
) -> Iterable[pb.TokenLogprobs]:
    for token, found in zip(tokens, positions, strict=False):
        likeliest = [(-one.logprob, other) for other, one in found.items() if one.rank <= most]
        yield pb.TokenLogprobs(
            chosen=_logprob(token, found[token]),
            top=[_logprob(other, found[other]) for _, other in sorted(likeliest)[:most]],
        )


def _logprob(token: int, one: Any) -> pb.TokenLogprob:
    return pb.TokenLogprob(token_id=token, text=one.decoded_token or "", logprob=one.logprob)
