"""The handlers of vLLM's server, with Baton's refusals before and its errors behind them."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request

from baton.errors import BatonError, Reason
from router.exchange import EXCHANGE
from router.front import FrontError
from router.http_guard import ERROR_STATE, refuse_fields

_log = logging.getLogger(__name__)
_MISREAD = (AssertionError, AttributeError, LookupError)
"""What vLLM raises over some requests that its models of them allow, besides what it answers with
400 by itself: an answer of before without any content, a tool's result in parts."""

Handler = Callable[..., Awaitable[Any]]


def guard_handlers(state: Any) -> None:
    """Puts `refuse_fields` before each handler, where requests are parsed and nothing has run.

    `state` is the app's state after vLLM has set it up.
    """
    completion, chat = state.openai_serving_completion, state.openai_serving_chat
    completion.create_completion = _guarded(completion.create_completion)
    chat.create_chat_completion = _guarded(chat.create_chat_completion)
    responses, messages = state.openai_serving_responses, state.anthropic_serving_messages
    responses.enable_store = False
    for serving in (completion, chat):
        serving.create_streaming_error_response = _streaming(serving, _typed_error)
    # The Messages stream is made from a chat stream; it words what is raised, not what is sent.
    messages.create_streaming_error_response = _streaming(messages, _raised_again)
    responses.create_responses = _ending_well(_guarded(responses.create_responses))
    messages.create_messages = _answering(messages, _guarded(messages.create_messages))
    messages.count_tokens = _answering(messages, _guarded(messages.count_tokens))
    tokens = state.serving_tokenization
    tokens.create_tokenize = _guarded(tokens.create_tokenize)
    tokens.create_detokenize = _guarded(tokens.create_detokenize)


def _streaming(serving: Any, answer: Callable[[FrontError], str]) -> Callable[..., str]:
    """How a stream of `serving` that is under way ends when an error is raised in it."""
    otherwise: Callable[..., str] = serving.create_streaming_error_response

    def create(message: str | Exception, *args: Any, **options: Any) -> str:
        if isinstance(message, FrontError):
            return answer(message)
        return otherwise(message, *args, **options)

    return create


def _typed_error(raised: FrontError) -> str:
    body = raised.error.to_openai()
    body["error"]["message"] = str(raised)
    return json.dumps(body)


def _raised_again(raised: FrontError) -> str:
    raise raised


def _guarded(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def guarded(request: Any, raw_request: Request | None = None) -> Any:
        refuse_fields(request)
        try:
            return await handler(request, raw_request)
        except _MISREAD as raised:
            exchange = EXCHANGE.get()
            if exchange is not None and exchange.answering:
                raise
            _log.warning("a request cannot be read", exc_info=True)
            message = f"The request cannot be read: {raised!r}"
            raise BatonError(Reason.INVALID_REQUEST, message) from raised

    return guarded


def _answering(serving: Any, handler: Handler) -> Handler:
    """Returns errors as vLLM's error object: its Messages route catches whatever is raised."""

    @functools.wraps(handler)
    async def answering(request: Any, raw_request: Request) -> Any:
        try:
            return await handler(request, raw_request)
        except (BatonError, FrontError) as raised:
            error = raised.error if isinstance(raised, FrontError) else raised
        setattr(raw_request.state, ERROR_STATE, error)
        return serving.create_error_response(
            error.message, error.rule.openai_type, HTTPStatus(error.rule.http_status), error.param
        )

    return answering


class _ErrorEvent(BaseModel):
    """The event that ends a stream of the Responses API in an error."""

    type: str = "error"
    code: str
    message: str
    param: str | None = None
    sequence_number: int


def _ending_well(handler: Handler) -> Handler:
    """Ends a failed Responses stream with an event; vLLM would just cut the connection."""

    @functools.wraps(handler)
    async def ending_well(request: Any, raw_request: Request | None = None) -> Any:
        answer = await handler(request, raw_request)
        return _until_error(answer) if hasattr(answer, "__aiter__") else answer

    return ending_well


async def _until_error(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    number = -1
    try:
        async for event in events:
            number = event.sequence_number
            yield event
    except FrontError as raised:
        error = raised.error
        yield _ErrorEvent(
            code=error.reason.value,
            message=str(raised),
            param=error.param,
            sequence_number=number + 1,
        )
