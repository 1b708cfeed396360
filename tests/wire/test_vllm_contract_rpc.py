"""What the gRPC service relies on inside vLLM; after an upgrade it fails first, and says where."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.exceptions import VLLMNotFoundError, VLLMValidationError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers.base import BaseRenderer
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine import FinishReason

from baton.errors import Reason
from router.rpc_answers import _ENDS
from router.rpc_requests import _OPTIONAL, _STRUCTURES, _refusal

pytestmark = pytest.mark.wire


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "leading"),
    [
        (OnlineRenderer.render_completion, ["request"]),
        (OnlineRenderer.render_chat, ["request"]),
        (
            OnlineRenderer.preprocess_completion,
            ["request", "prompt_input", "prompt_embeds"],
        ),
        (
            OnlineRenderer.preprocess_chat,
            [
                "request",
                "messages",
                "default_template",
                "default_template_content_format",
                "default_template_kwargs",
            ],
        ),
        (CompletionRequest.to_sampling_params, ["max_tokens", "default_sampling_params"]),
        (
            get_max_tokens,
            [
                "max_model_len",
                "max_tokens",
                "input_length",
                "default_sampling_params",
                "override_max_tokens",
            ],
        ),
        (BaseRenderer.validate_token_ids, ["token_ids"]),
        (create_error_response, ["message"]),
        (AuthenticationMiddleware.verify_token, ["headers"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(function: Any, leading: list[str]):
    assert _parameters(function)[: len(leading)] == leading


def test_fields_of_requests():
    own = {"prompt", "max_tokens", "stop", "stop_token_ids", "ignore_eos", "bad_words", "stream"}
    own |= {"structured_outputs", "cache_salt", *_OPTIONAL}
    assert own <= set(CompletionRequest.model_fields)
    assert {"messages", "max_completion_tokens", "cache_salt"} <= set(
        ChatCompletionRequest.model_fields
    )
    assert "prompt" in TokenizeCompletionRequest.model_fields
    assert "messages" in TokenizeChatRequest.model_fields
    structures = set(StructuredOutputsParams.__dataclass_fields__)
    assert {"choice", *_STRUCTURES.values()} <= structures


def test_a_request_that_streams_gives_deltas():
    asked = CompletionRequest(prompt="x", stream=True)
    params = asked.to_sampling_params(5, {})
    assert isinstance(params, SamplingParams)
    assert (params.output_kind, params.max_tokens) == (RequestOutputKind.DELTA, 5)


def test_fields_of_outputs():
    assert {"prompt_token_ids", "num_cached_tokens", "outputs", "finished"} <= set(
        _parameters(RequestOutput.__init__)
    )
    fields = {"index", "text", "token_ids", "logprobs", "finish_reason", "stop_reason"}
    assert fields <= set(CompletionOutput.__dataclass_fields__)


def test_ends():
    """Those that end well; the others are raised by the front."""
    assert {str(reason) for reason in FinishReason} == {*_ENDS, "abort", "error"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VLLMValidationError("x", parameter="top_p"), Reason.INVALID_REQUEST),
        (VLLMValidationError("x", parameter="input_tokens"), Reason.PROMPT_TOO_LONG),
        (VLLMNotFoundError("x"), Reason.INVALID_REQUEST),
        (ValueError("x"), Reason.INVALID_REQUEST),
        (TypeError("x"), Reason.INVALID_REQUEST),
        (NotImplementedError("x"), Reason.UNSUPPORTED),
    ],
)
def test_errors_of_clients(error: Exception, reason: Reason):
    found = _refusal(error)
    assert found is not None
    assert found.reason is reason


def test_errors_of_the_server_are_not_the_clients():
    assert _refusal(RuntimeError("x")) is None
