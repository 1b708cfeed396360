"""Typed failures in vLLM's Python server as a front-end process. No process runs here."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

from baton.errors import BatonError, Reason
from deploy.front_process import TypedFailures
from router.front import FrontError


def failed_output(name: str, error: BatonError) -> EngineCoreOutput:
    why = json.dumps({**error.to_wire(), "retry_after_s": None})
    return EngineCoreOutput(name, [], finish_reason=FinishReason.ERROR, stop_reason=why)


class Llm:
    """An AsyncLLM with requests `a` and `b`, the children of one, and `c`."""

    def __init__(self, *outputs: EngineCoreOutput) -> None:
        self._outputs = list(outputs)
        self.aborted: list[str] = []
        self.queued: list[BaseException] = []
        self.engine_core = self.output_processor = self
        queue = SimpleNamespace(put=self.queued.append)
        parent = SimpleNamespace(request_id="whole")
        self.request_states = {
            name: SimpleNamespace(request_id=name, parent_req=of, queue=queue)
            for name, of in (("a", parent), ("b", parent), ("c", None))
        }

    async def get_output_async(self) -> Any:
        return EngineCoreOutputs(outputs=self._outputs)

    async def abort_requests_async(self, names: list[str]) -> None:
        self.aborted += names

    def abort_requests(self, names: list[str], *, internal: bool) -> list[str]:
        assert internal
        found = ["a", "b"] if names == ["whole"] else names
        return [name for name in found if self.request_states.pop(name, None)]


ERROR = BatonError(Reason.ENGINE_FAILED, "dead")


async def test_the_other_answers_of_a_failed_request_are_aborted() -> None:
    llm = Llm(failed_output("a", ERROR), EngineCoreOutput("b", [1]), EngineCoreOutput("c", [2]))
    step = await TypedFailures(llm).get_output_async()
    assert [one.request_id for one in step.outputs] == ["c"]
    assert llm.aborted == ["b"]
    (error,) = llm.queued
    assert isinstance(error, FrontError)
    assert error.error.reason is Reason.ENGINE_FAILED


async def test_answers_that_fail_together_need_no_abort() -> None:
    llm = Llm(failed_output("a", ERROR), failed_output("b", ERROR))
    assert not (await TypedFailures(llm).get_output_async()).outputs
    assert (llm.aborted, len(llm.queued)) == ([], 1)


async def test_other_ends_are_passed_on() -> None:
    llm = Llm(EngineCoreOutput("a", [1], finish_reason=FinishReason.STOP))
    assert len((await TypedFailures(llm).get_output_async()).outputs) == 1
    assert (llm.aborted, llm.queued) == ([], [])
