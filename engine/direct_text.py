"""Text of direct streams: vLLM's output processor, in the worker, for their legs alone.

One of the few files that touch vLLM's internals; tests/wire/test_vllm_contract_direct.py holds
what it relies on.
"""

from __future__ import annotations

from typing import Any

from vllm.config import VllmConfig
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from baton.errors import BatonError, Reason


class Texts:
    """Begins the texts of one engine's answers."""

    def __init__(self, config: VllmConfig) -> None:
        tokenizer = cached_tokenizer_from_config(config.model_config)
        interval = config.scheduler_config.stream_interval
        self._processor = OutputProcessor(tokenizer, log_stats=False, stream_interval=interval)

    def __call__(self, request: EngineCoreRequest) -> EngineText:
        """See `engine.direct.Texts`."""
        return EngineText(self._processor, request)


class EngineText:
    """Implements `engine.direct.Text`. What is not read yet is merged, so that it stays one."""

    def __init__(self, processor: OutputProcessor, request: EngineCoreRequest) -> None:
        params, self._leg_id = request.sampling_params, request.request_id
        if params is None or params.output_kind is not RequestOutputKind.DELTA:
            raise BatonError(Reason.UNSUPPORTED, "only streamed answers are read directly")
        self.logprobs: int | None = params.logprobs
        self._processor = processor
        self._told = 0
        self._queue = RequestOutputCollector(params.output_kind, self._leg_id)
        processor.add_request(request, None, None, 0, self._queue)
        self._state = processor.request_states[self._leg_id]
        self._unread: Any = None
        """What had not been read when it failed."""

    def add(self, output: EngineCoreOutput) -> bool:
        """See `Text`."""
        return bool(self._processor.process_outputs([output]).reqs_to_abort)

    def told(self, output: EngineCoreOutput, *, stopped: bool) -> EngineCoreOutput:
        """See `Text`. The output itself is changed: nobody else has it."""
        tokens = self._state.detokenizer.output_token_ids
        output.new_token_ids, self._told = tokens[self._told :], len(tokens)
        output.new_logprobs = None
        if stopped:
            output.finish_reason = FinishReason.STOP
        return output

    def fail(self, error: BatonError) -> None:
        """See `Text`."""
        self._unread = self._queue.get_nowait()
        # Without a queue its end is no output.
        self._state.queue = None
        self._processor.abort_requests([self._leg_id], internal=True)
        self._queue.put(error)

    async def next(self) -> Any:
        """See `Text`."""
        try:
            return self._queue.get_nowait() or await self._queue.get()
        except BatonError as error:
            unread, self._unread = self._unread, None
            if unread is None:
                raise
            self._queue.put(error)
            return unread
