"""Requests of the gRPC service, taken as vLLM's own server takes its requests.

They become vLLM's request models: so defaults, ranges, rendering and validation are those of HTTP.
This file relies on internals of vLLM 0.32; tests/wire/test_vllm_contract_rpc.py holds what it
relies on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from baton_client.v1 import service_pb2 as pb
from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.sampling_params import StructuredOutputsParams

from baton.errors import BatonError, Reason
from router.front import BatonFront, FrontError, TokenStream
from router.http_guard import ITEMS_MAX

_OPTIONAL = (
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "n",
    "logprobs",
)
_STRUCTURES = {
    "json_schema": "json",
    "regex": "regex",
    "grammar": "grammar",
}
_TOO_LONG = frozenset({"input_tokens", "input_text"})
"""What vLLM calls a prompt at fault for its length."""


class Requests:
    """Over one front; `state` is that of vLLM's app, once it is set up."""

    def __init__(self, front: BatonFront, state: Any) -> None:
        self._front = front
        self._completion = state.openai_serving_completion
        self._chat = state.openai_serving_chat
        self._tokenize = state.serving_tokenization

    @property
    def models(self) -> Sequence[str]:
        """The names of what is served; the first one is told in answers."""
        return [path.name for path in self._completion.models.base_model_paths]

    @property
    def max_model_len_tokens(self) -> int:
        """Most tokens of prompt and answer together."""
        most: int = self._front.model_config.max_model_len
        return most

    def check_model(self, name: str) -> None:
        """Raises BatonError for a name that is not served; empty = the one that is."""
        if name and name not in self.models:
            known = ", ".join(self.models)
            raise BatonError(
                Reason.MODEL_NOT_FOUND, f"There is no such model; served: {known}.", param="model"
            )

    def check_resumed(self, request: pb.GenerateRequest) -> None:
        """Raises BatonError where an answer cannot go on after `resume_token_ids`."""
        sent, sampling = request.resume_token_ids, request.sampling
        if not sent:
            return
        with _refusals():
            self._front.renderer.validate_token_ids(list(sent))
        if sampling.n > 1:
            raise BatonError(
                Reason.UNSUPPORTED, "Only single answers are resumed.", param="sampling.n"
            )
        most = self.max_model_len_tokens
        if len(sent) >= (sampling.max_tokens if sampling.HasField("max_tokens") else most):
            raise _wrong("The answer is as long as it may be.", "resume_token_ids")

    async def count(self, prompt: pb.Prompt) -> Sequence[int]:
        """The tokens of a prompt, however many. Raises BatonError for what cannot be read."""
        with _refusals():
            kind = _kind(prompt)
            if kind == "token_ids":
                ids = list(prompt.token_ids.ids)
                self._front.renderer.validate_token_ids(ids)
                return ids
            if kind == "text":
                asked = TokenizeCompletionRequest(prompt=prompt.text)
                (found,) = await self._completion.online_renderer.preprocess_completion(
                    asked, prompt_input=asked.prompt, prompt_embeds=None
                )
            else:
                found = await self._counted_chat(prompt)
            tokens: list[int] = found["prompt_token_ids"]
            return tokens

    async def submit(self, request: pb.GenerateRequest, request_id: str) -> TokenStream:
        """Hands a request to the heart. Raises BatonError for what it cannot be, or not now."""
        sampling = request.sampling
        with _refusals():
            kind = _kind(request.prompt)
            asked = CompletionRequest(**_prompt(request.prompt, kind), **_chosen(request))
            self._front.check_admission(asked.n or 1)
            chats = kind == "conversation"
            serving = self._chat if chats else self._completion
            engine_input = await (self._conversation(request) if chats else self._text(asked))
            params = asked.to_sampling_params(
                get_max_tokens(
                    self.max_model_len_tokens,
                    sampling.max_tokens if sampling.HasField("max_tokens") else None,
                    len(engine_input["prompt_token_ids"]),
                    serving.default_sampling_params,
                    serving.override_max_tokens,
                ),
                serving.default_sampling_params,
            )
            # The answer's text is what has the structure, with no reasoning before it.
            whole = {"reasoning_ended": True} if chats and params.structured_outputs else {}
            return self._front.generate(engine_input, params, request_id, **whole)

    async def _text(self, asked: CompletionRequest) -> Any:
        rendered = await self._completion.online_renderer.render_completion(asked)
        (found,) = _checked(rendered)
        return found

    async def _conversation(self, request: pb.GenerateRequest) -> Any:
        asked = ChatCompletionRequest(
            messages=_messages(request.prompt.conversation),
            max_completion_tokens=_room(request.sampling),
            cache_salt=request.cache_salt or None,
        )
        _, (found,) = _checked(await self._chat.online_renderer.render_chat(asked))
        return found

    async def _counted_chat(self, prompt: pb.Prompt) -> Any:
        asked = TokenizeChatRequest(messages=_messages(prompt.conversation))
        tokenize = self._tokenize
        _, (found,) = await self._chat.online_renderer.preprocess_chat(
            asked,
            asked.messages,
            default_template=tokenize.chat_template,
            default_template_content_format=tokenize.chat_template_content_format,
            default_template_kwargs=tokenize.default_chat_template_kwargs,
        )
        return found


def may_be_direct(request: pb.GenerateRequest) -> bool:
    """Whether the decode worker may tell this answer itself: one answer, from its beginning."""
    return request.direct and request.sampling.n <= 1 and not request.resume_token_ids


# --- from messages to vLLM's models ---------------------------------------------------------------


def _kind(prompt: pb.Prompt) -> str:
    kind = prompt.WhichOneof("kind")
    if kind is None:
        raise _wrong("There is no prompt.", "prompt")
    if kind == "conversation":
        _check_many(len(prompt.conversation.messages), "prompt.conversation")
    if kind == "token_ids" and not prompt.token_ids.ids:
        raise _wrong("There are no tokens.", "prompt.token_ids")
    return kind


def _check_many(messages: int, where: str) -> None:
    if messages == 0:
        raise _wrong("The conversation is empty.", where)
    if messages > (most := ITEMS_MAX["messages"]):
        raise _wrong(f"The conversation has {messages} messages; allowed: {most}", where)


def _wrong(message: str, where: str) -> BatonError:
    return BatonError(Reason.INVALID_REQUEST, message, param=where)


def _prompt(prompt: pb.Prompt, kind: str) -> dict[str, Any]:
    match kind:
        case "text":
            return {"prompt": prompt.text}
        case "token_ids":
            return {"prompt": list(prompt.token_ids.ids)}
    # Rendered by the chat's own model; this one is asked for the sampling only.
    return {"prompt": "conversation"}


def _messages(conversation: pb.Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in conversation.messages]


def _chosen(request: pb.GenerateRequest) -> dict[str, Any]:
    sampling = request.sampling
    given = {field.name: value for field, value in sampling.ListFields()}
    return {
        **{name: given[name] for name in _OPTIONAL if name in given},
        "max_tokens": _room(sampling),
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
        "bad_words": list(sampling.bad_words),
        "structured_outputs": _structure(sampling),
        "cache_salt": request.cache_salt or None,
        "stream": True,
    }


def _room(sampling: pb.Sampling) -> int:
    """What the prompt has to leave for the answer."""
    return sampling.max_tokens if sampling.HasField("max_tokens") else 1


def _structure(sampling: pb.Sampling) -> StructuredOutputsParams | None:
    kind = sampling.WhichOneof("structure")
    if kind is None:
        return None
    if kind == "choices":
        return StructuredOutputsParams(choice=list(sampling.choices.texts))
    return StructuredOutputsParams(**{_STRUCTURES[kind]: getattr(sampling, kind)})


# --- from vLLM's errors to ours -------------------------------------------------------------------


def _checked(rendered: Any) -> Any:
    """What was rendered. Raises BatonError where vLLM returned an error instead."""
    if (error := getattr(rendered, "error", None)) is not None:
        raise BatonError(Reason.INVALID_REQUEST, error.message, param=error.param)
    return rendered


@contextmanager
def _refusals() -> Iterator[None]:
    """Raises what a client is to blame for as BatonError, as vLLM's server would answer it."""
    try:
        yield
    except (BatonError, FrontError):
        raise
    except Exception as error:
        if (refusal := _refusal(error)) is not None:
            raise refusal from error
        raise


def _refusal(error: Exception) -> BatonError | None:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return BatonError(Reason.INVALID_REQUEST, first["msg"], param=where or None)
    told = create_error_response(error).error
    if told.code == HTTPStatus.NOT_IMPLEMENTED:
        return BatonError(Reason.UNSUPPORTED, told.message)
    if told.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    reason = Reason.PROMPT_TOO_LONG if told.param in _TOO_LONG else Reason.INVALID_REQUEST
    return BatonError(reason, told.message, param=told.param)
