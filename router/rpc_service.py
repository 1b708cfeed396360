"""The methods of baton.v1.Baton over one front. Talks in messages; gRPC itself is elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn
from uuid import uuid4

from baton_client.v1 import service_pb2 as pb

from baton.errors import BatonError, Reason
from router.caller import CALLER
from router.front import TokenStream
from router.pacing import gathered
from router.rpc_answers import Answer
from router.rpc_caller import lowered
from router.rpc_calls import Call, Method
from router.rpc_requests import Requests, may_be_direct

_NAME = re.compile(r"[!-~]{1,128}")


class Service:
    """Belongs to one event loop. `story` tells the life of a request, None where it is unknown.

    `direct`: whether clients that can do so are sent to decode workers for their tokens.
    """

    def __init__(
        self,
        requests: Requests,
        story: Callable[[str, str | None, bool], str | None],
        *,
        direct: bool = False,
    ) -> None:
        self._requests = requests
        self._direct = direct
        self._story = story
        self._names: set[tuple[str, str]] = set()

    def methods(self) -> Mapping[str, Method[Any]]:
        """By name."""
        return {
            "Generate": Method(pb.GenerateRequest, self.generate, knocks=True),
            "Embed": Method(pb.EmbedRequest, self.embed),
            "CountTokens": Method(pb.CountTokensRequest, self.count_tokens),
            "ListModels": Method(pb.ListModelsRequest, self.list_models),
            "GetStory": Method(pb.GetStoryRequest, self.get_story),
        }

    async def generate(self, call: Call[pb.GenerateRequest]) -> None:
        """Writes the answer as it comes. Whatever ends this early aborts the request."""
        request = call.request
        CALLER.set(lowered(CALLER.get(), request.priority))
        self._requests.check_model(request.model)
        self._requests.check_resumed(request)
        call.exchange.sent = tuple(request.resume_token_ids)
        call.exchange.direct = self._direct and may_be_direct(request)
        with self._named(request.request_id) as name:
            stream = await self._requests.submit(request, name)
            try:
                await _pass_on(stream, self._answer(request, name), call)
            finally:
                stream.close()

    async def embed(self, call: Call[pb.EmbedRequest]) -> NoReturn:
        """Raises BatonError: pooling models are not served."""
        self._requests.check_model(call.request.model)
        raise BatonError(Reason.UNSUPPORTED, "The model generates text; it does not embed.")

    async def count_tokens(self, call: Call[pb.CountTokensRequest]) -> None:
        """Renders a prompt as `generate` would."""
        request = call.request
        self._requests.check_model(request.model)
        tokens = await self._requests.count(request.prompt)
        answer = pb.CountTokensResponse(
            tokens=len(tokens), max_model_len_tokens=self._requests.max_model_len_tokens
        )
        if request.return_token_ids:
            answer.token_ids.extend(tokens)
        await call.write(answer.SerializeToString())

    async def list_models(self, call: Call[pb.ListModelsRequest]) -> None:
        """Writes what is served."""
        most = self._requests.max_model_len_tokens
        models = [
            pb.Model(name=name, max_model_len_tokens=most, can_generate=True)
            for name in self._requests.models
        ]
        await call.write(pb.ListModelsResponse(models=models).SerializeToString())

    async def get_story(self, call: Call[pb.GetStoryRequest]) -> None:
        """Writes the life of a request."""
        name = _checked_name(call.request.request_id)
        text = self._story(name, CALLER.get().sees, True)
        if text is None:
            raise BatonError(
                Reason.REQUEST_UNKNOWN,
                "No such request, or it is too long ago.",
                param="request_id",
            )
        await call.write(pb.GetStoryResponse(text=text).SerializeToString())

    def _answer(self, request: pb.GenerateRequest, name: str) -> Answer:
        sampling = request.sampling
        return Answer(
            name,
            self._requests.models[0],
            ids=request.return_token_ids,
            resumed=len(request.resume_token_ids),
            logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
        )

    @contextmanager
    def _named(self, wanted: str) -> Iterator[str]:
        """The name of a request, which is its own until the end. Raises BatonError."""
        name = _checked_name(wanted) if wanted else f"rpc-{uuid4().hex}"
        if (own := (CALLER.get().tenant, name)) in self._names:
            raise BatonError(
                Reason.DUPLICATE_ID, "A request of this name runs.", param="request_id"
            )
        self._names.add(own)
        try:
            yield name
        finally:
            self._names.discard(own)


async def _pass_on(stream: TokenStream, answer: Answer, call: Call[Any]) -> None:
    write, exchange, told = call.write, call.exchange, False
    async with aclosing(gathered(stream)) as outputs:
        async for output in outputs:
            if exchange.source is not None:
                stream.only_counts()
            message = answer.message(output, exchange.source)
            if output.finished and exchange.split is not None:
                answer.end(message, exchange.split)
                told = True
            if data := message.SerializeToString():
                await write(data)
            exchange.written(time.monotonic())
    if not told:
        # Where the first message was the last: its own way out belongs to the time it tells.
        last = pb.GenerateResponse()
        answer.end(last, exchange.split)
        await write(last.SerializeToString())


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise BatonError(
            Reason.INVALID_REQUEST,
            "A request's name has 1 to 128 visible ASCII characters.",
            param="request_id",
        )
    return name
