"""One streamed request to an OpenAI endpoint, timed as its client sees it.

Nothing here raises for what an endpoint does: whatever goes wrong is a kind of failure in the
outcome. A stream that ends without its last line, or with an error in it, has failed, although its
status was 200.
"""

from __future__ import annotations

import asyncio
import errno
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from baton.clock import Clock
from baton.errors import seconds_from

_ERROR_BYTES_MAX = 65_536
_NAME_MAX, _DETAIL_MAX = 60, 300
LINE_BYTES_MAX = 1 << 20
UNFINISHED = "unfinished"
"""The run ended before the answer did."""
NOT_SENT = "not sent: too many in flight"
NO_FILE = "not sent: too many open files"
"""This process's fault, or this machine's."""
_SAID = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
)
"""Where the tokens of a chat's answer are."""
_HEADERS = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Target:
    """What every request of a run has in common."""

    url: str
    """Up to, and without, /v1."""
    model: str
    chat: bool = False
    ignore_eos: bool = True
    """Answers are as long as asked: not in OpenAI's own API."""
    timeout_s: float = 600.0

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def body(self, prompt: list[int] | str, output_tokens: int) -> bytes:
        """The request as JSON."""
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.chat:
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked["prompt"] = prompt
        if self.ignore_eos:
            asked["ignore_eos"] = True
        return json.dumps(asked).encode()


@dataclass(slots=True)
class Outcome:
    """What became of one request. Times are seconds from its sending."""

    number: int
    due_s: float
    """When it was to be sent, from the start of the load."""
    sent_s: float
    input_tokens: int
    """As the endpoint counted, or as asked where it did not say."""
    output_tokens: int = 0
    cached_tokens: int = 0
    ttft_s: float | None = None
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    """Between the chunks that brought tokens."""
    total_s: float = 0.0
    failure: str = UNFINISHED
    """Its kind; empty: the answer is complete."""
    detail: str = ""
    """What the endpoint said of the failure."""
    retry_after_s: float | None = None

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first; None for a single one, and for one chunk of all."""
        known = self.gaps_s and self.output_tokens > 1
        return sum(self.gaps_s) / (self.output_tokens - 1) if known else None


def shown(url: str) -> str:
    """An address without the name and the password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


async def ask(
    session: aiohttp.ClientSession, target: Target, body: bytes, outcome: Outcome, clock: Clock
) -> None:
    """Sends one request and fills in its outcome. Raises CancelledError only."""
    began = clock.now()
    try:
        async with asyncio.timeout(target.timeout_s):
            outcome.failure = await _ask(session, target, body, outcome, clock)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        mine = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
        outcome.failure = NO_FILE if mine else "no connection"
    except TimeoutError:
        outcome.failure = "timeout"
    except (aiohttp.ClientError, ConnectionError, ValueError):
        # ValueError: a line that does not end.
        outcome.failure = "connection lost" if outcome.ttft_s is None else "stream broken off"
    outcome.total_s = clock.now() - began


async def _ask(
    session: aiohttp.ClientSession, target: Target, body: bytes, outcome: Outcome, clock: Clock
) -> str:
    began = clock.now()
    async with session.post(target.url + target.path, data=body, headers=_HEADERS) as answer:
        if answer.status != 200:
            outcome.retry_after_s = seconds_from(answer.headers.get("Retry-After"))
            error = _object(await answer.content.read(_ERROR_BYTES_MAX))
            return f"HTTP {answer.status} {_said(error, outcome)}".rstrip()
        return await _read(answer, outcome, clock, began)


async def _read(
    answer: aiohttp.ClientResponse, outcome: Outcome, clock: Clock, began: float
) -> str:
    last_s, tokens, ended = 0.0, 0, False
    async for line in answer.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            # Read on to the end: only then can the connection be used again.
            ended = True
            continue
        event = _object(data)
        if event.get("error"):
            return f"error in the stream {_said(event, outcome)}".rstrip()
        if _has_token(event):
            now_s, tokens = clock.now() - began, tokens + 1
            if outcome.ttft_s is None:
                outcome.ttft_s = now_s
            else:
                outcome.gaps_s.append(now_s - last_s)
            last_s = now_s
        _count(event, outcome)
    outcome.output_tokens = outcome.output_tokens or tokens
    if not ended:
        return "stream broken off"
    # A token need not have a text: half a character, or the sign that an answer ends.
    return "" if outcome.output_tokens else "empty answer"


def _has_token(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    return isinstance(choices, list) and any(map(_brings, choices))


def _brings(choice: Any) -> bool:
    """Completions say nothing but tokens; the first chunk of a chat says only who speaks."""
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "text" in choice
    return any(map(delta.get, _SAID))


def _count(event: Mapping[str, Any], outcome: Outcome) -> None:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return
    outcome.output_tokens = _tokens(usage, "completion_tokens") or outcome.output_tokens
    outcome.input_tokens = _tokens(usage, "prompt_tokens") or outcome.input_tokens
    details = usage.get("prompt_tokens_details")
    outcome.cached_tokens = _tokens(details, "cached_tokens") if isinstance(details, dict) else 0


def _tokens(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int and value > 0 else 0


def _said(event: Mapping[str, Any], outcome: Outcome) -> str:
    """What an OpenAI error object calls itself: its code if that is a name, else its type."""
    error = event.get("error")
    if not isinstance(error, dict):
        return ""
    outcome.detail = str(error.get("message") or "")[:_DETAIL_MAX]
    names = (error.get("code"), error.get("type"))
    return next((n[:_NAME_MAX] for n in names if isinstance(n, str) and n), "")


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
