"""The front end of a run: books tokens with the moments at which they came."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from vllm.v1.engine import EngineCoreOutputs, FinishReason
from vllm.v1.serial_utils import MsgpackDecoder

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from benchmarks.faults_streams import Stream

_BROKEN = frozenset({FinishReason.ABORT, FinishReason.ERROR})


class Front:
    """Implements `router.ports.FrontPort`."""

    def __init__(self) -> None:
        self._decoder: Any = MsgpackDecoder(EngineCoreOutputs)
        self.streams: dict[RequestId, Stream] = {}
        """Those that a client waits for."""

    def deliver(
        self, buffers: Sequence[bytes], requests: dict[str, RequestId]
    ) -> Sequence[RequestId]:
        """One engine step's outputs."""
        now, finished = time.monotonic(), []
        for output in self._decoder.decode(list(buffers)).outputs:
            request_id = requests.get(output.request_id)
            if request_id is None:
                continue
            if output.finish_reason is not None:
                finished.append(request_id)
            self._take(self.streams.get(request_id), output, now)
        return finished

    def _take(self, stream: Stream | None, output: Any, now: float) -> None:
        if stream is None:
            return
        if output.new_token_ids:
            stream.tokens += output.new_token_ids
            stream.times.append(now)
        if output.finish_reason in _BROKEN:
            stream.end(BatonError(Reason.ENGINE_FAILED, f"{output.finish_reason}"))
        elif output.finish_reason is not None:
            stream.end()

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        """The request ended without a further token."""
        if (stream := self.streams.get(request_id)) is not None:
            stream.end(error)

    def sent(self, request_id: RequestId) -> Sequence[int]:
        """What its client has."""
        stream = self.streams.get(request_id)
        if stream is None:
            return ()
        stream.broken.append(time.monotonic())
        return tuple(stream.tokens)

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        """Counts them."""
        stream = self.streams.get(request_id)
        return int if stream is None else lambda: len(stream.tokens)
