"""An answer whose messages leave slowly has fewer of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from baton_client.v1 import service_pb2 as pb
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.output_processor import RequestOutputCollector

from router.exchange import Exchange
from router.front import TokenStream
from router.rpc_answers import Answer
from router.rpc_calls import Call
from router.rpc_service import _pass_on


class Written:
    """Takes messages, each in so many seconds; after the first one the rest of the tokens come."""

    def __init__(self, takes_s: float, rest: asyncio.Event) -> None:
        self.messages: list[pb.GenerateResponse] = []
        self._takes_s = takes_s
        self._rest = rest

    async def write(self, data: bytes) -> None:
        self.messages.append(pb.GenerateResponse.FromString(data))
        await asyncio.sleep(self._takes_s)
        self._rest.set()


def output(token: int, last: bool) -> Any:
    end = "length" if last else None
    one = CompletionOutput(0, str(token), [token], None, None, finish_reason=end)
    return RequestOutput("a", None, [1, 2], None, [one], finished=last)


async def test_tokens_that_come_while_a_message_leaves_are_one() -> None:
    queue, rest = RequestOutputCollector(RequestOutputKind.DELTA, "a"), asyncio.Event()
    written = Written(0.06, rest)

    async def generate() -> None:
        queue.put(output(0, False))
        await rest.wait()
        for token in (1, 2, 3):
            await asyncio.sleep(0)
            queue.put(output(token, token == 3))

    front: Any = SimpleNamespace(drop=lambda _name: None)
    call: Any = Call(pb.GenerateRequest(), Exchange(0.0), written.write)
    answer = Answer("a", "model", ids=False, logprobs=None)
    await asyncio.gather(_pass_on(TokenStream(front, queue), answer, call), generate())
    found = [delta for message in written.messages for delta in message.deltas]
    assert [delta.tokens for delta in found] == [1, 3]
    assert "".join(delta.text for delta in found) == "0123"
    assert written.messages[-1].usage.completion_tokens == 4
