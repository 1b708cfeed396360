"""The cluster as one engine to vLLM's own OpenAI server.

`BatonFront` is vLLM's `AsyncLLM` with the engine taken out: rendering, validation, n > 1,
detokenising, stop strings and output collectors are vLLM's; where `AsyncLLM` talks to its engine
core stands `HeartCore`, which talks to the heart. This file relies on internals of vLLM 0.32;
tests/wire/test_vllm_contract_front.py holds what it relies on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
from vllm.config import VllmConfig
from vllm.exceptions import GracefulHTTPError
from vllm.renderers import renderer_from_config
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.metrics.stats import IterationStats
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from baton.errors import BatonError, Reason
from baton.ids import REQUEST_ID_CHARS_MAX, RequestId
from router.caller import CALLER
from router.engine_request import engine_request
from router.exchange import EXCHANGE
from router.http_guard import refuse_transfer_fields
from router.ports import HeartPort
from router.text_states import counter_of, go_on_behind, only_count
from router.tracing import Tracing

_log = logging.getLogger(__name__)
# vLLM answers 200 for an aborted output; one that nobody here asked for is a failure.
_BROKEN = frozenset({FinishReason.ABORT, FinishReason.ERROR})
_TEXT_PROMPT = "token"


class FrontError(GracefulHTTPError):
    """A BatonError on its way through vLLM's server, which passes this class on untouched."""

    def __init__(self, error: BatonError) -> None:
        super().__init__(f"{error.reason.value}: {error.message}", _http_status(error))
        self.error = error


def _http_status(error: BatonError) -> HTTPStatus:
    try:
        return HTTPStatus(error.rule.http_status)
    except ValueError:
        # 499 is in use but in no standard, so vLLM cannot hold it.
        return HTTPStatus.SERVICE_UNAVAILABLE


class HeartCore:
    """The part of vLLM's `EngineCoreClient` that `AsyncLLM` needs to serve; the rest refuses."""

    def __init__(self, heart: HeartPort, tracing: Tracing | None, outputs: OutputProcessor) -> None:
        self._heart = heart
        self._outputs = outputs
        self._tracing = tracing
        self._encoder = MsgpackEncoder()
        self.resources = SimpleNamespace(engine_dead=False)

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        """Hands a request to the heart. Raises FrontError when the heart refuses it."""
        trace = None if self._tracing is None else self._tracing.begin(CALLER.get().trace)
        request.trace_headers = None if trace is None else trace.headers
        # Workers and routers name KV blocks after it.
        request.cache_salt = CALLER.get().cache_salt(request.cache_salt)
        if (exchange := EXCHANGE.get()) is not None and exchange.sent:
            go_on_behind(self._outputs.request_states[request.request_id], exchange.sent)
        try:
            self._heart.submit(engine_request(request, self._encoder.encode(request), trace))
        except BatonError as error:
            raise FrontError(error) from error

    async def abort_requests_async(self, request_ids: Sequence[str]) -> None:
        """Makes the heart forget these requests."""
        if request_ids:
            self._heart.abort([RequestId(request_id) for request_id in request_ids])

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        """Generating text is all this cluster does."""
        return ("generate",)

    def shutdown(self, timeout: float | None = None) -> None:
        """Does nothing: the workers belong to the cluster, not to a front end."""

    def __getattr__(self, name: str) -> NoReturn:
        # Dunder look-ups by copy and friends must keep their own meaning.
        if name.startswith("__"):
            raise AttributeError(name)
        raise FrontError(
            BatonError(Reason.ROUTE_BLOCKED, f"{name} manages an engine; Baton manages its own.")
        )


class TokenStream:
    """The outputs of one request, in place of the generator of `AsyncLLM.generate`.

    The request already runs when this is made. Whoever drops the stream before its end, by
    `aclose`, by cancellation or by letting go of it, aborts the request.
    """

    def __init__(self, front: BatonFront, queue: RequestOutputCollector) -> None:
        self._front = front
        self._queue: RequestOutputCollector | None = queue

    def __aiter__(self) -> TokenStream:
        return self

    async def __anext__(self) -> Any:
        queue = self._queue
        if queue is None:
            raise StopAsyncIteration
        try:
            output = queue.get_nowait() or await queue.get()
        except (asyncio.CancelledError, FrontError):
            self.close()
            raise
        if output.finished:
            self._queue = None
        return output

    async def ready(self) -> bool:
        """Returns once there is an output, which stays and is added to; False at the end."""
        if self._queue is not None:
            await self._queue.ready.wait()
        return self._queue is not None

    def only_counts(self) -> None:
        """Its text is read elsewhere: from now on outputs have none."""
        if self._queue is not None:
            only_count(self._front.output_processor.request_states.get(self._queue.request_id))

    async def aclose(self) -> None:
        """Aborts the request unless it has ended."""
        self.close()

    def close(self) -> None:
        """Aborts the request unless it has ended."""
        queue, self._queue = self._queue, None
        if queue is not None:
            self._front.drop(queue.request_id)

    __del__ = close


class BatonFront(AsyncLLM):
    """An `AsyncLLM` whose engine is the heart; implements `router.ports.FrontPort`.

    Does not call `AsyncLLM.__init__`, which would start an engine: it sets what that sets.
    Belongs to one event loop.
    """

    def __init__(
        self, vllm_config: VllmConfig, heart: HeartPort, tracing: Tracing | None = None
    ) -> None:
        self.vllm_config = vllm_config
        self.model_config = vllm_config.model_config
        self.scheduler_config = vllm_config.scheduler_config
        self.observability_config = vllm_config.observability_config
        self.log_requests = self.log_stats = False
        self.logger_manager = None
        self.admission_stats = None
        self.output_handler = None
        self.profiler = None
        self._traced = tracing is not None
        self.renderer = renderer_from_config(vllm_config)
        self.input_processor = InputProcessor(vllm_config, self.renderer)
        self.output_processor = OutputProcessor(
            self.renderer.tokenizer,
            # vLLM's own span of a request needs its statistics.
            log_stats=self._traced,
            stream_interval=vllm_config.scheduler_config.stream_interval,
            tracing_enabled=self._traced,
        )
        self._heart = heart
        self.engine_core = HeartCore(heart, tracing, self.output_processor)
        # Known from the start, so that adding a request never waits (see `generate`).
        self._supported_tasks = ("generate",)
        self._decoder = MsgpackDecoder(EngineCoreOutputs)

    def set_model_limits(self, max_model_len_tokens: int) -> int:
        """Takes over what the workers can hold; never raises the limit of the model itself.

        Returns the limit that is now.
        """
        most: int = min(self.model_config.max_model_len, max_model_len_tokens)
        self.model_config.max_model_len = most
        return most

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the requests that wait for tokens."""
        return tuple(self.output_processor.request_states)

    def shutdown(self, timeout: float | None = None) -> None:
        """Ends the renderer's threads. The heart is not touched."""
        if renderer := self.__dict__.get("renderer"):
            renderer.shutdown()

    # --- what vLLM's server calls -----------------------------------------------------------------

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Raises FrontError if the heart does not take `n` more sequences now."""
        try:
            self._heart.admit(n, CALLER.get())
        except BatonError as error:
            raise FrontError(error) from error

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> TokenStream:
        """Submits a request and returns its stream. Raises what refuses it.

        A plain function, unlike vLLM's: a refusal is raised here, while the answer's status can
        still be chosen, and not in a generator that runs after the 200 of a stream.
        """
        _refuse_unsupported(request_id, prompt, sampling_params, options.get("lora_request"))
        return TokenStream(
            self, _at_once(self.add_request(request_id, prompt, sampling_params, **options))
        )

    def encode(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raises FrontError: pooling models are not served."""
        raise FrontError(BatonError(Reason.UNSUPPORTED, "Pooling is not supported."))

    async def _add_request(self, request: EngineCoreRequest, *args: Any) -> None:
        taken = False
        try:
            await super()._add_request(request, *args)
            taken = True
        finally:
            if not taken:
                # vLLM has registered the request by then and would keep it for ever.
                self.output_processor.abort_requests([request.request_id], internal=True)

    def _run_output_handler(self) -> None:
        """Does nothing: outputs come by `deliver`."""

    def drop(self, request_id: str) -> None:
        """Forgets a request, or all children of one with n > 1, here and in the cluster."""
        self._abort_in_cluster(self.output_processor.abort_requests([request_id], internal=True))

    # --- what the heart calls ---------------------------------------------------------------------

    def deliver(
        self, buffers: Sequence[bytes], requests: Mapping[str, RequestId]
    ) -> Sequence[RequestId]:
        """One engine step's outputs; see `router.ports.FrontPort`."""
        try:
            step = self._decoder.decode(buffers)
        except msgspec.MsgspecError as error:
            return self._fail_all(requests, f"an engine's outputs cannot be read: {error}")
        outputs, finished = [], []
        for output in step.outputs:
            request_id = requests.get(output.request_id)
            if request_id is None:
                continue
            output.request_id = request_id
            if output.finish_reason is not None:
                finished.append(request_id)
                if output.finish_reason in _BROKEN:
                    self.fail(request_id, _broken(output.finish_reason))
                    continue
            outputs.append(output)
        # The clock of the engine's events: vLLM's span tells the time between them and the steps.
        done = self.output_processor.process_outputs(
            outputs,
            step.timestamp,
            IterationStats() if self._traced else None,
            step.weight_version,
        )
        self._abort_in_cluster(done.reqs_to_abort)
        return finished

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        """Ends a request, and with n > 1 its siblings too, by raising in its stream."""
        state = self.output_processor.request_states.get(request_id)
        if state is None:
            return
        whole = request_id if state.parent_req is None else state.parent_req.request_id
        dropped = self.output_processor.abort_requests([whole], internal=True)
        self._abort_in_cluster([sibling for sibling in dropped if sibling != request_id])
        # Last, because an exception replaces the aborted output that was just queued.
        state.queue.put(FrontError(error))

    def sent(self, request_id: RequestId) -> Sequence[int]:
        """The tokens that the output processor has taken for this request."""
        state = self.output_processor.request_states.get(request_id)
        detokenizer = None if state is None else state.detokenizer
        return () if detokenizer is None else tuple(detokenizer.output_token_ids)

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        """Counts them without a copy; vLLM itself forgets a request at its end."""
        state = self.output_processor.request_states.get(request_id)
        return int if state is None else counter_of(state)

    def _fail_all(self, requests: Mapping[str, RequestId], message: str) -> Sequence[RequestId]:
        _log.error("%s", message)
        failed = list(dict.fromkeys(requests.values()))
        self._abort_in_cluster(failed)
        for request_id in failed:
            self.fail(request_id, BatonError(Reason.ENGINE_FAILED, message))
        return failed

    def _abort_in_cluster(self, request_ids: Sequence[str]) -> None:
        if request_ids:
            self._heart.abort([RequestId(request_id) for request_id in request_ids])


def _broken(finish_reason: FinishReason) -> BatonError:
    return BatonError(Reason.ENGINE_FAILED, f"The engine gave the request up ({finish_reason}).")


def _refuse_unsupported(request_id: str, prompt: Any, params: Any, lora_request: Any) -> None:
    try:
        _check_supported(request_id, prompt, lora_request)
        refuse_transfer_fields(getattr(params, "extra_args", None) or {})
    except BatonError as error:
        raise FrontError(error) from error


def _check_supported(request_id: str, prompt: Any, lora_request: Any) -> None:
    if len(request_id) > REQUEST_ID_CHARS_MAX:
        message = f"The request's id has more than {REQUEST_ID_CHARS_MAX} characters."
        raise BatonError(Reason.INVALID_REQUEST, message, param="request_id")
    if lora_request is not None:
        raise BatonError(Reason.UNSUPPORTED, "LoRA adapters are not supported.", param="model")
    kind = prompt.get("type") if isinstance(prompt, dict) else type(prompt).__name__
    if kind != _TEXT_PROMPT:
        raise BatonError(Reason.UNSUPPORTED, f"Only text prompts are supported, not {kind!r}.")


def _at_once(adding: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits, without an event loop's turn."""
    try:
        adding.send(None)
    except StopIteration as done:
        return done.value
    adding.close()
    raise RuntimeError("adding a request had to wait; this vLLM is not the one supported")
