"""The endpoint before the load: is it there, does it let us in, does it serve the model?"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx

from baton.clock import MonotonicClock
from baton.errors import BatonError, Reason, StartupError, StartupFault
from deploy.bench.client import LINE_BYTES_MAX, Outcome, Target, ask, shown
from deploy.bench.prompts import Prompts
from deploy.reach import CONNECT_TIMEOUT_S, Reach
from simulator.traces.request import Request, blocks_of

_SHORT, _LONG = 16, 528
"""Tokens, or words, of the prompts by which an endpoint is tried."""
_OTHER_FILES = 64
_BY_STATUS = {
    401: Reason.UNAUTHENTICATED,
    403: Reason.PERMISSION_DENIED,
    404: Reason.MODEL_NOT_FOUND,
    429: Reason.QUEUE_FULL,
    503: Reason.NO_WORKER,
}


@dataclass(frozen=True, slots=True)
class Model:
    """What the endpoint serves."""

    name: str
    context_tokens: int | None
    """None = it does not say."""


def models(reach: Reach) -> list[Model]:
    """What an endpoint serves. Raises BatonError: it is not there, or does not let us in."""
    try:
        with reach.client(CONNECT_TIMEOUT_S) as client:
            answer = client.get("/v1/models")
        listed = answer.json() if answer.status_code == httpx.codes.OK else None
    except httpx.HTTPError as error:
        what = str(error) or type(error).__name__
        raise BatonError(
            Reason.NO_WORKER, f"nothing answers at {shown(reach.url)}: {what}"
        ) from error
    except ValueError:
        listed = None
    if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
        reason = _BY_STATUS.get(answer.status_code, Reason.INTERNAL)
        what = f"{shown(reach.url)}/v1/models answered {answer.status_code} {answer.reason_phrase}"
        raise BatonError(reason, f"{what}: no list of models")
    return [_model(entry) for entry in listed["data"] if isinstance(entry, dict)]


def choose(served: list[Model], wanted: str | None, url: str) -> Model:
    """The model wanted, or the only one. Raises BatonError MODEL_NOT_FOUND."""
    found = served[0] if served and wanted is None else None
    found = next((model for model in served if model.name == wanted), found)
    if found is None:
        names = ", ".join(model.name for model in served) or "none"
        raise BatonError(
            Reason.MODEL_NOT_FOUND, f"{url} does not serve {wanted or 'a model'}; it has: {names}"
        )
    return found


def session(reach: Reach) -> aiohttp.ClientSession:
    """Connections without a bound of their own; to be made and closed in an event loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=reach.trust()),
        headers={"authorization": f"Bearer {reach.key}"} if reach.key else {},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        read_bufsize=LINE_BYTES_MAX,
        trust_env=reach.by_proxy,
    )


def connections(wanted: int) -> int:
    """How many of so many can be open at once: raises this process's limit of files for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(wanted, soft - _OTHER_FILES), 1)


async def tried(
    session: aiohttp.ClientSession,
    target: Target,
    salt: str,
    *,
    words: bool,
    context_tokens: int | None = None,
) -> Prompts:
    """Asks once, as all requests will. With words twice: learns how many of them make a token.

    Raises BatonError and StartupError for whatever would befall every other request too.
    """
    short = await _counted(session, target, salt, _SHORT, words=words)
    if not words:
        return Prompts(salt)
    words_of_long = min(_LONG, max((context_tokens or 3 * _LONG) // 3, _SHORT + 1))
    long = await _counted(session, target, salt, words_of_long, words=words)
    # One length alone cannot tell the words from what a chat template adds to any of them.
    per_word = (long - short) / (words_of_long - _SHORT)
    if per_word <= 0:
        # No count that could be believed.
        return Prompts(salt, 1.0)
    return Prompts(salt, 1 / per_word, max(round(short - per_word * _SHORT), 0))


async def _counted(
    session: aiohttp.ClientSession, target: Target, salt: str, length: int, *, words: bool
) -> int:
    """How many tokens the endpoint finds in a prompt of so many words."""
    # A salt of its own: nothing of it may be found in a cache later.
    prompts = Prompts(f"{salt} first", 1.0 if words else None)
    request = Request(0, 0.0, length, 1, tuple(range(blocks_of(length))))
    outcome = Outcome(0, 0.0, 0.0, length)
    body = target.body(prompts.of(request), request.output_tokens)
    await ask(session, target, body, outcome, MonotonicClock())
    if outcome.failure:
        raise _refused(target, outcome)
    return outcome.input_tokens


def _refused(target: Target, outcome: Outcome) -> BatonError | StartupError:
    said = f": {outcome.detail}" if outcome.detail else ""
    message = (
        f"the first request to {shown(target.url)}{target.path} failed ({outcome.failure}){said}"
    )
    status = next((s for s in _BY_STATUS if outcome.failure.startswith(f"HTTP {s}")), None)
    if status is not None:
        return BatonError(_BY_STATUS[status], message)
    if outcome.failure.startswith("HTTP 4"):
        hint = "If it does not take `ignore_eos`, add --no-ignore-eos; if not token ids, --words."
        return StartupError(StartupFault.SETTINGS_INVALID, message, hint=hint)
    return BatonError(Reason.ENGINE_FAILED, message)


def _model(entry: dict[str, Any]) -> Model:
    context = entry.get("max_model_len")
    return Model(str(entry.get("id")), context if type(context) is int and context > 1 else None)
