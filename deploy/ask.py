"""`baton ask`: one prompt to a running cluster, its tokens as they come, and how fast they came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from baton.errors import BatonError, Reason
from deploy.reach import CONNECT_TIMEOUT_S, Reach

_SILENCE_TIMEOUT_S = 600.0
_LOCKED = (401, 403)


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask."""

    prompt: str
    max_tokens: int
    temperature: float | None
    chat: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, and when."""

    model: str
    text: str
    tokens: int
    finish_reason: str | None
    ttft_s: float
    total_s: float

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first; None for a single token."""
        return (self.total_s - self.ttft_s) / (self.tokens - 1) if self.tokens > 1 else None

    def figures(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "model": self.model,
            "text": self.text,
            "tokens": self.tokens,
            "finish_reason": self.finish_reason,
            "ttft_s": round(self.ttft_s, 4),
            "tpot_s": None if self.tpot_s is None else round(self.tpot_s, 5),
            "total_s": round(self.total_s, 4),
        }

    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.tokens} tokens", f"TTFT {self.ttft_s * 1000:.0f} ms"]
        if self.tpot_s is not None:
            rate = 1 / self.tpot_s if self.tpot_s > 0 else 0.0
            parts += [f"TPOT {self.tpot_s * 1000:.1f} ms", f"{rate:.1f} tokens/s"]
        return ", ".join(parts)


def ask(reach: Reach, question: Question, on_text: Callable[[str], None]) -> Answer:
    """Streams the answer. Raises BatonError: NO_WORKER if nobody answers, or as the router says."""
    try:
        with reach.client(_SILENCE_TIMEOUT_S) as client:
            return _ask(client, _model(client), question, on_text)
    except httpx.HTTPError as error:
        what = str(error) or type(error).__name__
        raise BatonError(Reason.NO_WORKER, f"nothing answers at {reach.url}: {what}") from error


def get_json(reach: Reach, path: str) -> tuple[int, Any]:
    """Status and JSON of one page. Raises BatonError as `get_text` does."""
    status, text = get_text(reach, path)
    return status, _json(text)


def status_page(reach: Reach) -> dict[str, Any]:
    """A router's `/status`. Raises BatonError as `get_text` does, and where there is none."""
    status, page = get_json(reach, "/status")
    if status != httpx.codes.OK or not isinstance(page, dict) or "members" not in page:
        raise BatonError(
            Reason.UNSUPPORTED,
            f"{reach.url}/status answered {status}: that is no router of Baton. Behind other front "
            "ends routers have addresses of their own; name one with --url",
        )
    return page


def get_text(reach: Reach, path: str) -> tuple[int, str]:
    """Status and text of one page. Raises BatonError: NO_WORKER, or that the key is not enough."""
    try:
        with reach.client(CONNECT_TIMEOUT_S) as client:
            answer = client.get(path)
    except httpx.HTTPError as error:
        raise BatonError(Reason.NO_WORKER, f"nothing answers at {reach.url}: {error}") from error
    if answer.status_code in _LOCKED:
        _raise_for(answer)
    return answer.status_code, answer.text


def _model(client: httpx.Client) -> str:
    answer = client.get("/v1/models")
    _raise_for(answer)
    listed = _json(answer.text)
    if not isinstance(listed, dict) or not listed.get("data"):
        raise BatonError(Reason.MODEL_NOT_FOUND, f"{client.base_url} serves no model")
    return str(listed["data"][0]["id"])


def _ask(
    client: httpx.Client, model: str, question: Question, on_text: Callable[[str], None]
) -> Answer:
    path = "/v1/chat/completions" if question.chat else "/v1/completions"
    collected = _Collected()
    began = time.perf_counter()
    with client.stream("POST", path, json=_body(model, question)) as answer:
        if answer.status_code != 200:
            answer.read()
        _raise_for(answer)
        for event in _events(answer):
            text = collected.take(event, time.perf_counter() - began)
            if text:
                on_text(text)
    return collected.answer(model)


class _Collected:
    """The answer so far."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._tokens: int | None = None
        self._reason: str | None = None
        self._first_s: float | None = None
        self._last_s = 0.0

    def take(self, event: Mapping[str, Any], at_s: float) -> str:
        """Adds one event of the stream; the text in it."""
        if "error" in event:
            raise _error_of(event, "the stream broke off")
        if event.get("usage"):
            self._tokens = event["usage"].get("completion_tokens")
        choices = event.get("choices") or ()
        text = "".join(_text(choice) for choice in choices)
        if any("delta" not in choice or _text(choice) for choice in choices):
            self._first_s = at_s if self._first_s is None else self._first_s
            self._last_s = at_s
        if text:
            self._texts.append(text)
        reasons = [c["finish_reason"] for c in choices if c.get("finish_reason")]
        self._reason = reasons[0] if reasons else self._reason
        return text

    def answer(self, model: str) -> Answer:
        """What came. Raises BatonError if that was nothing."""
        if self._first_s is None:
            raise BatonError(Reason.INTERNAL, "the answer held no token")
        tokens = len(self._texts) if self._tokens is None else self._tokens
        text = "".join(self._texts)
        return Answer(model, text, tokens, self._reason, self._first_s, self._last_s)


def _text(choice: Mapping[str, Any]) -> str:
    if "delta" not in choice:
        return choice.get("text") or ""
    delta = choice["delta"] or {}
    return (delta.get("reasoning_content") or "") + (delta.get("content") or "")


def _body(model: str, question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": question.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if question.chat:
        body["messages"] = [{"role": "user", "content": question.prompt}]
    else:
        body["prompt"] = question.prompt
    if question.temperature is not None:
        body["temperature"] = question.temperature
    return body


def _events(answer: httpx.Response) -> Iterator[Mapping[str, Any]]:
    for line in answer.iter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = _json(data)
        if not isinstance(event, dict):
            raise BatonError(Reason.INTERNAL, f"not an event of a stream: {data[:80]}")
        yield event


def _raise_for(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        return
    body = _json(answer.text)
    status = f"{answer.status_code} {answer.reason_phrase}"
    raise _error_of(body if isinstance(body, dict) else {}, f"the answer was {status}")


def _error_of(body: Mapping[str, Any], otherwise: str) -> BatonError:
    error = body.get("error")
    if not isinstance(error, dict):
        return BatonError(Reason.INTERNAL, otherwise)
    wire = {"reason": str(error.get("code")), "message": str(error.get("message") or otherwise)}
    return BatonError.from_wire(wire)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
