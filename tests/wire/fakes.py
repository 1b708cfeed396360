"""A heart without a cluster: answers from a script, in the engines' own encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.outputs import LogprobsLists
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from baton.errors import BatonError
from baton.ids import RequestId
from baton.tasks import Tasks
from router.caller import ANYBODY, Caller
from router.ports import EngineRequest, FrontPort

END = 2
"""The demo model's end-of-sequence token."""


@dataclass
class Script:
    """What becomes of the requests submitted from now on."""

    tokens: Sequence[int] = ()
    """The answer, followed by the end token, or repeated until max_tokens when `endless`."""
    endless: bool = False
    delay_s: float = 0.0
    """Seconds before each token."""
    refuse_admit: BatonError | None = None
    refuse_submit: BatonError | None = None
    fail_with: BatonError | None = None
    fail_after: int = 0
    """Tokens sent before `fail_with`, or before silence when `hang`."""
    hang: bool = False
    finish: FinishReason | None = None
    """How the engine ends the request; None: length or stop, as it comes."""


@dataclass
class FakeHeart:
    """Implements `router.ports.HeartPort`; belongs to the event loop of its front."""

    script: Script = field(default_factory=Script)
    front: FrontPort | None = None
    requests: list[EngineRequest] = field(default_factory=list)
    """All that were ever taken."""
    cores: list[EngineCoreRequest] = field(default_factory=list)
    live: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    """Who asked to be admitted."""
    sent: int = 0
    tasks: Tasks = field(default_factory=lambda: Tasks("fake heart"))

    def admit(self, sequences: int = 1, caller: Caller = ANYBODY) -> None:
        """As the script says."""
        self.callers.append(caller)
        if self.script.refuse_admit is not None:
            raise self.script.refuse_admit

    @contextmanager
    def knock(self, caller: Caller) -> Iterator[None]:
        """As the script says."""
        self.admit(1, caller)
        yield

    def submit(self, request: EngineRequest) -> None:
        """Starts the scripted answer."""
        if self.script.refuse_submit is not None:
            raise self.script.refuse_submit
        core = MsgpackDecoder(EngineCoreRequest).decode(request.payload)
        self.requests.append(request)
        self.cores.append(core)
        assert request.request_id not in self.live
        answer = self._answer(request, core.sampling_params, self.script)
        self.live[request.request_id] = self.tasks.spawn(answer, request.request_id)

    def abort(self, request_ids: Sequence[RequestId]) -> None:
        """Stops answering; unknown ids are ignored."""
        for request_id in request_ids:
            if (task := self.live.pop(request_id, None)) is not None:
                self.aborted.append(request_id)
                task.cancel()

    async def _answer(self, request: EngineRequest, params: Any, script: Script) -> None:
        tokens = [*script.tokens, *(() if script.endless else (END,))]
        count = params.max_tokens if script.endless else min(params.max_tokens, len(tokens))
        for index in range(count):
            await asyncio.sleep(script.delay_s)
            if (script.fail_with or script.hang) and index == script.fail_after:
                break
            if index == 0 and request.exchange is not None:
                request.exchange.when_written(lambda _at: None)
            last = index == count - 1
            reason = FinishReason.LENGTH if count == params.max_tokens else FinishReason.STOP
            self._deliver(
                request.request_id,
                tokens[index % len(tokens)],
                (script.finish or reason) if last else None,
                params.logprobs,
            )
        if script.hang:
            await asyncio.Event().wait()
        if script.fail_with is not None:
            del self.live[request.request_id]
            self.front.fail(request.request_id, script.fail_with)

    def _deliver(
        self, request_id: RequestId, token: int, finish: FinishReason | None, logprobs: int | None
    ) -> None:
        leg = f"{request_id}.0.d"
        output = EngineCoreOutput(leg, [token], finish_reason=finish)
        if logprobs is not None:
            output.new_logprobs = _logprobs(token, logprobs)
        # One output that nobody here asked for is in every step.
        stranger = EngineCoreOutput("somebody-else.0.d", [token])
        buffers = encode(EngineCoreOutputs(outputs=[stranger, output], timestamp=1.0))
        self.sent += 1
        for finished in self.front.deliver(buffers, {leg: request_id}):
            self.live.pop(finished, None)


def encode(step: EngineCoreOutputs) -> list[bytes]:
    """A step as it comes from the wire."""
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(step)]


def _logprobs(token: int, count: int) -> Any:
    ids = np.array([[token, *range(count)]], dtype=np.int32)
    values = np.array([[-0.5, *(-1.0 - i for i in range(count))]], dtype=np.float32)
    return LogprobsLists(ids, values, np.array([1], dtype=np.int32), None)
