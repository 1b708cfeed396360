"""What is asked: prompts, sampling, options, and the messages that are made of them."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from baton_client.connection import UNSENDABLE, sendable
from baton_client.errors import InvalidRequestError
from baton_client.v1 import service_pb2 as pb


class Message(TypedDict):
    """One message of a conversation, as chat templates know it."""

    role: str
    content: str


Prompt: TypeAlias = str | Sequence[Message] | Sequence[int]
"""Text, a conversation, or token ids that are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when the answer ends. None = the model's own default.

    The names and ranges are vLLM's. At most one of `json_schema` (a schema as a mapping or as
    JSON), `regex`, `grammar` (EBNF) and `choices` (one of these texts) says what the answer has to
    look like.

        careful = Sampling(temperature=0, max_tokens=200)
        client.generate("Hello", sampling=careful, max_tokens=20)  # keywords come before it
    """

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    n: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool | None = None
    bad_words: Sequence[str] | None = None
    logprobs: int | None = None
    json_schema: Mapping[str, Any] | str | None = None
    regex: str | None = None
    grammar: str | None = None
    choices: Sequence[str] | None = None


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments."""

    max_tokens: int | None
    min_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    seed: int | None
    n: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool | None
    bad_words: Sequence[str] | None
    logprobs: int | None
    json_schema: Mapping[str, Any] | str | None
    regex: str | None
    grammar: str | None
    choices: Sequence[str] | None


class GenerateOptions(SamplingOptions, total=False):
    """What `generate`, `stream`, `map` and sessions take besides the prompt.

    model: which model; default the client's, then the one that is served.
    sampling: where the sampling options start from.
    timeout_s: seconds for the whole answer, retries included; default the client's.
    request_id: a name for `story` and logs, visible ASCII, at most 128 characters; default a
        random one. Not for `map`, whose requests each have their own.
    priority: "low", "normal" or "high"; default that of the tenant.
    cache_salt: cached KV is shared only with requests of the same salt.
    return_token_ids: whether pieces and choices carry token ids.
    traceparent: W3C trace context, so that the cluster's spans belong to the caller's trace.
    direct: read the answer from the decode worker where that is offered; default the client's.
    """

    model: str
    sampling: Sampling
    timeout_s: float
    request_id: str
    priority: Literal["low", "normal", "high"]
    cache_salt: str
    return_token_ids: bool
    traceparent: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to generate. `request_id` makes an id for each attempt."""

    request: pb.GenerateRequest
    request_id: Callable[[], str]
    timeout_s: float | None
    metadata: tuple[tuple[str, str], ...]
    direct: bool | None = None

    def attempt(self) -> pb.GenerateRequest:
        """The request under the id of its next attempt."""
        self.request.request_id = self.request_id()
        return self.request


def new_id(prefix: str = "") -> str:
    """A name that no other request has."""
    return prefix + os.urandom(8).hex()


def generate_ask(
    prompt: Prompt, options: GenerateOptions, model: str = "", prefix: str = ""
) -> Ask:
    """The request for a prompt. Raises InvalidRequestError, and TypeError for unknown options."""
    rest: dict[str, Any] = dict(options)
    given_id, timeout_s = rest.pop("request_id", ""), rest.pop("timeout_s", None)
    direct: bool | None = rest.pop("direct", None)
    trace, priority = rest.pop("traceparent", None), rest.pop("priority", "unspecified")
    if trace is not None and not (isinstance(trace, str) and sendable(trace)):
        raise _wrong("traceparent", UNSENDABLE)
    request = pb.GenerateRequest(prompt=prompt_message(prompt))
    put(request, "request_id", given_id)
    put(request, "model", rest.pop("model", "") or model)
    put(request, "priority", f"PRIORITY_{priority}".upper())
    for name in ("cache_salt", "return_token_ids"):
        put(request, name, rest.pop(name, None))
    sampling: Sampling = rest.pop("sampling", Sampling())
    _sampling(request.sampling, dataclasses.replace(sampling, **rest))
    metadata = () if trace is None else (("traceparent", trace),)
    return Ask(request, lambda: given_id or new_id(prefix), timeout_s, metadata, direct)


def prompt_message(prompt: Prompt) -> pb.Prompt:
    """The prompt as a message.

    Raises InvalidRequestError where it is empty, of mixed kinds, or no text that can be encoded.
    """
    if not isinstance(prompt, str) and not prompt:
        raise _wrong("prompt", "is empty")
    items: Any = prompt
    try:
        if isinstance(prompt, str):
            return pb.Prompt(text=prompt)
        if isinstance(prompt[0], Mapping):
            messages = [pb.ChatMessage(**message) for message in items]
            return pb.Prompt(conversation=pb.Conversation(messages=messages))
        return pb.Prompt(token_ids=pb.TokenIds(ids=items))
    except (TypeError, ValueError) as error:
        raise _wrong("prompt", str(error)) from None


def _sampling(message: pb.Sampling, sampling: Sampling) -> None:
    values = {f.name: getattr(sampling, f.name) for f in dataclasses.fields(sampling)}
    shapes = [n for n in ("json_schema", "regex", "grammar", "choices") if values[n] is not None]
    if len(shapes) > 1:
        raise _wrong(shapes[1], f"at most one of {', '.join(shapes)}")
    if isinstance(sampling.json_schema, Mapping):
        values["json_schema"] = json.dumps(dict(sampling.json_schema))
    if isinstance(sampling.stop, str):
        values["stop"] = [sampling.stop]
    if (choices := values.pop("choices")) is not None:
        put(message.choices, "texts", choices)
    if sampling.top_k == -1:
        # vLLM's older word for all tokens; the field has no sign.
        values["top_k"] = 0
    for name, value in values.items():
        put(message, name, value)


def put(message: Any, name: str, value: object) -> None:
    """Set a field; None leaves it out. Raises InvalidRequestError."""
    if value is None:
        return
    try:
        message.MergeFrom(type(message)(**{name: value}))
    except (TypeError, ValueError) as error:
        raise _wrong(name, str(error)) from None


def _wrong(name: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name}: {what}", reason="invalid_request", param=name)
