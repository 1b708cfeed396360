"""The router as one engine core to vLLM's own front-end processes.

A front end listens on two ZMQ sockets, one for its engines' words and requests, one for their
outputs; the router connects to both and says that it is ready. From then on requests come as
EngineCoreRequest and a step's outputs leave as EngineCoreOutputs, encoded once per front end; steps
that follow each other closely leave together. This file relies on internals of vLLM 0.32;
tests/wire/test_vllm_contract_link.py holds what it relies on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
import vllm
import zmq
from vllm.v1.engine import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    EngineCoreRequestType,
    FinishReason,
    UtilityOutput,
)
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder, UtilityResult

from baton.errors import BatonError
from baton.settings.admission import DEFAULT_TENANT
from router.gathering import Gathered, Output

RANK = (0).to_bytes(2, "little")
"""To a front end the whole cluster is the engine of this rank."""
_QUEUED_MAX = 16_384
"""Messages on their way; a front end that leaves so many unread is given up."""
_READ_AT_ONCE = 64
_RETRY_AFTER = "retry_after_s"
_UNREADABLE = (msgspec.MsgspecError, LookupError, NotImplementedError, TypeError, ValueError)
_ADD, _ABORT = EngineCoreRequestType.ADD.value, EngineCoreRequestType.ABORT.value
_UTILITY = EngineCoreRequestType.UTILITY.value
GATHER_S = 0.005
"""A request's next tokens that come sooner than this wait for more of them, never longer."""
ERROR = FinishReason.ERROR.value
BROKEN = frozenset({FinishReason.ABORT.value, ERROR})
"""Ways in which an engine ends a request without having answered it."""
_ANSWERS: dict[str, object] = {
    "get_supported_tasks": ("generate",),
    "is_scheduler_paused": False,
    "is_sleeping": False,
    "reset_mm_cache": None,
}
"""What is answered of all that front ends may ask of an engine."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A front-end process. `name` is given once: requests of all that ever were differ by it."""

    name: str
    input_address: str
    output_address: str
    tenant: str = DEFAULT_TENANT
    """Whose requests come from it; it passes on no header that would say so."""


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a front end asks of an engine's size. Zero where it is not known."""

    max_model_len_tokens: int
    block_size_tokens: int = 0
    kv_blocks: int = 0
    dtype: str = "bfloat16"
    """Front ends want a type that exists; nothing is computed in it there."""


class _Owner(Protocol):
    def add(self, link: EngineLink, request: EngineCoreRequest, payload: list[bytes]) -> None:
        """A request came."""

    def drop(self, link: EngineLink, names: Iterable[str]) -> None:
        """The front end has no use for these any more."""

    def lose(self, link: EngineLink, why: str) -> None:
        """The front end is out of reach."""


class EngineLink:
    """The engine's end of the connection to one front-end process. Belongs to one event loop."""

    def __init__(self, front_end: FrontEnd, context: zmq.Context[Any], owner: _Owner) -> None:
        self.front_end = front_end
        self._owner = owner
        self._encoder = MsgpackEncoder()
        self._requests = MsgpackDecoder(EngineCoreRequest)
        self._loop = asyncio.get_running_loop()
        self._gathered = Gathered()
        self._urgent = False
        self._sent_at = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._input = context.socket(zmq.DEALER)
        self._input.setsockopt(zmq.IDENTITY, RANK)
        self._output = context.socket(zmq.PUSH)
        for socket, address in (
            (self._input, front_end.input_address),
            (self._output, front_end.output_address),
        ):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, _QUEUED_MAX)
            socket.setsockopt(zmq.RCVHWM, _QUEUED_MAX)
            socket.connect(address)
        self._fd = self._input.getsockopt(zmq.FD)
        self._loop.add_reader(self._fd, self._read)

    def ready(self, limits: ModelLimits) -> None:
        """Says that requests may come."""
        self._input.send(ready_message(limits), zmq.NOBLOCK)
        # Sending can use up the one sign that something has come.
        self._loop.call_soon(self._read)

    def gather(self, output: Output, since_s: float) -> None:
        """Takes an output that came so long after its request's last one."""
        self._gathered.add(output)
        self._urgent = self._urgent or since_s >= GATHER_S

    def send_soon(self, beside: Sequence[bytes] = ()) -> None:
        """Sends what is gathered: at most GATHER_S after the last message, or now if any of it was
        waited for longer; `beside`: buffers that the outputs refer to by number, which cannot wait.
        """
        wait_s = self._sent_at + GATHER_S - self._loop.time()
        if self._urgent or beside or wait_s <= 0:
            self.flush(beside)
        elif self._later is None:
            self._later = self._loop.call_later(wait_s, self.flush)

    def flush(self, beside: Sequence[bytes] = ()) -> None:
        """Sends what is gathered."""
        self._wait_no_more()
        self._urgent = False
        if outputs := self._gathered.take():
            self._sent_at = self._loop.time()
            step = msgspec.msgpack.encode((0, outputs, None, time.monotonic()))
            self._send([step, *beside])

    def _wait_no_more(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def send_failure(self, name: str, error: BatonError) -> None:
        """Ends a request; the protocol has one way to fail, and a place for words."""
        self.flush()
        why = json.dumps({**error.to_wire(), _RETRY_AFTER: error.retry_after_s})
        output = EngineCoreOutput(name, [], finish_reason=FinishReason.ERROR, stop_reason=why)
        self._send(self._encoder.encode(EngineCoreOutputs(outputs=[output])))

    def encode(self, request: EngineCoreRequest) -> Sequence[Any]:
        """A request as it would come."""
        buffers: Sequence[Any] = self._encoder.encode(request)
        return buffers

    def close(self) -> None:
        """Ends the connection. May be called again."""
        self._wait_no_more()
        if not self._input.closed:
            self._loop.remove_reader(self._fd)
            self._input.close()
            self._output.close()

    def _send(self, frames: Sequence[Any]) -> None:
        if self._output.closed:
            return
        try:
            self._output.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self._owner.lose(self, "it reads too slowly")

    # --- what comes -------------------------------------------------------------------------------

    def _read(self) -> None:
        """Takes what has come: the socket tells of it once, so nothing may be left."""
        emptied = False
        try:
            emptied = self._take()
        finally:
            # After an error too.
            if not emptied:
                self._loop.call_soon(self._read)

    def _take(self) -> bool:
        """Takes some of what has come; whether that was all, or nothing comes any more."""
        for _ in range(_READ_AT_ONCE):
            if self._input.closed:
                return True
            try:
                kind, *frames = self._input.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            try:
                said = self._decoded(kind, frames)
            except _UNREADABLE as error:
                self._owner.lose(self, f"it said what cannot be read: {error}")
            else:
                said()
        return False

    def _decoded(self, kind: bytes, frames: list[bytes]) -> Callable[[], None]:
        """What is to be done about a message."""
        if kind == _ADD:
            return partial(self._owner.add, self, self._requests.decode(frames), frames)
        if kind == _ABORT:
            names = msgspec.msgpack.decode(frames[0], type=list[str])
            return partial(self._owner.drop, self, names)
        if kind == _UTILITY:
            _, call_id, method, _ = msgspec.msgpack.decode(frames[0])
            told = EngineCoreOutputs(utility_output=_told(call_id, method))
            return partial(self._send, self._encoder.encode(told))
        raise ValueError(f"a message of kind {kind!r}")


def failure_of(output: EngineCoreOutput) -> BatonError | None:
    """Why a request failed, by the words of `send_failure`; None for any other output."""
    if output.finish_reason != FinishReason.ERROR or not isinstance(output.stop_reason, str):
        return None
    said = json.loads(output.stop_reason)
    error = BatonError.from_wire(said)
    error.retry_after_s = said[_RETRY_AFTER]
    return error


def ready_message(limits: ModelLimits) -> bytes:
    """What an engine says first."""
    return msgspec.msgpack.encode(
        EngineCoreReadyResponse(
            max_model_len=limits.max_model_len_tokens,
            num_gpu_blocks=limits.kv_blocks,
            block_size=limits.block_size_tokens,
            dp_stats_address=None,
            dtype=limits.dtype,
            vllm_version=vllm.__version__,
            world_size=1,
            data_parallel_size=1,
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            decode_context_parallel_size=1,
            data_parallel_rank=0,
            max_num_seqs=_QUEUED_MAX,
            max_num_batched_tokens=max(limits.max_model_len_tokens, 1),
            instance_id="baton",
            supports_lora=False,
            max_loras=0,
        )
    )


def _told(call_id: int, method: str) -> UtilityOutput:
    if method in _ANSWERS:
        return UtilityOutput(call_id, result=UtilityResult(_ANSWERS[method]))
    message = f"{method} manages an engine; Baton manages its own."
    return UtilityOutput(call_id, failure_message=message)
