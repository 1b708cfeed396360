"""Clients of a served cluster: streams over HTTP, and how each of them ended.

Whoever is cut off from its router can be told nothing, but notices: the stream breaks before its
end. That is booked as the error `connection_lost`, and the client asks again, for as long as it
takes the cluster to come back.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.faults_result import Result
from benchmarks.oracle import Answer, Verdict, judge
from deploy.model import DEMO_NAME

PROMPTS = (
    "def tokenize(text):\n",
    "import os\n\n\nclass Reader:\n",
    "# read a file line by line\n",
)
TOKENS = 150
SHORT_TOKENS = 12
HANG_S = 60.0
BACK_S = 60.0
CONNECTION_LOST = "connection_lost"


class ToldError(Exception):
    """The cluster told the client why there is no (further) answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Told:
    """One answer as it came. `times` has one moment for each piece with tokens."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    over: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A request's body, and the answer when nothing interrupts it."""

    body: dict[str, Any]
    answer: Answer

    def short(self) -> Case:
        """The same for fewer tokens."""
        answer = Answer(self.answer.tokens[:SHORT_TOKENS], self.answer.gaps[:SHORT_TOKENS])
        return Case({**self.body, "max_tokens": SHORT_TOKENS}, answer)


def cases(url: str) -> list[Case]:
    """Ask each alone, before anything goes wrong, once the cluster serves."""
    until = time.monotonic() + BACK_S
    while not _answers(url) and time.monotonic() < until:
        time.sleep(0.2)
    return [_case(url, prompt) for prompt in PROMPTS]


def _answers(url: str) -> bool:
    body = {"model": DEMO_NAME, "prompt": PROMPTS[0], "max_tokens": 1}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=HANG_S).status_code == 200


def _case(url: str, prompt: str) -> Case:
    body = {
        "model": DEMO_NAME,
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    asked = {**body, "logprobs": 2}
    answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=HANG_S).raise_for_status()
    (choice,) = answer.json()["choices"]
    gaps = tuple(_gap(row.values()) for row in choice["logprobs"]["top_logprobs"])
    return Case(body, Answer(tuple(choice["token_ids"]), gaps))


def _gap(logprobs: Iterable[float]) -> float:
    best, second, *_ = sorted(logprobs, reverse=True)
    return best - second


class Clients:
    """All clients of one cluster. `comes_back` says whether asking again makes sense."""

    def __init__(self, url: str, result: Result) -> None:
        self._url = url
        self._result = result
        self._http = httpx.AsyncClient(timeout=HANG_S)
        self.may_break = False
        """Whether a typed error or a broken stream is what the fault of now leads to."""
        self.comes_back = True

    async def aclose(self) -> None:
        """Leave."""
        await self._http.aclose()

    async def ask(self, case: Case, told: Told) -> None:
        """One request, to its end, and to a second one where the first broke off."""
        self._result.requests += 1
        try:
            async with asyncio.timeout(HANG_S):
                await self._once(case, told)
        except TimeoutError:
            self._result.hung += 1
            self._result.tell(f"hung: {case.body['prompt']!r} after {len(told.tokens)} tokens")
        except ToldError as error:
            await self._broken(case, error.code)
        except httpx.HTTPError as error:
            await self._broken(case, CONNECTION_LOST, str(error))
        else:
            self._book(case, told)
        told.over = True

    async def _broken(self, case: Case, code: str, why: str = "") -> None:
        self._result.typed_errors[code] += 1
        if not self.may_break:
            self._lose(f"{code} {why}")
        elif self.comes_back and not await self._again(case):
            self._lose(f"{code} {why}, and no answer within {BACK_S:.0f} s")

    def _lose(self, why: str) -> None:
        self._result.lost += 1
        self._result.tell(f"lost: {why}")

    async def _again(self, case: Case) -> bool:
        until = time.monotonic() + BACK_S
        while time.monotonic() < until:
            told = Told()
            try:
                await self._once(case, told)
            except (ToldError, httpx.HTTPError):
                await asyncio.sleep(0.3)
                continue
            self._result.counts["asked_again"] += 1
            self._book(case, told)
            return True
        return False

    async def _once(self, case: Case, told: Told) -> None:
        async for piece in self._pieces(case.body):
            for choice in piece["choices"]:
                if choice.get("token_ids"):
                    told.tokens += choice["token_ids"]
                    told.times.append(time.monotonic())

    async def _pieces(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Raises ToldError, and HTTPError when the stream ends before its end."""
        asked = {**body, "stream": True}
        path = f"{self._url}/v1/completions"
        async with self._http.stream("POST", path, json=asked) as answer:
            if answer.status_code != 200:
                raise ToldError(_code(await answer.aread()))
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: {"):
                    piece = json.loads(line.removeprefix("data: "))
                    if "error" in piece:
                        raise ToldError(str(piece["error"].get("code")))
                    yield piece
        raise httpx.RemoteProtocolError("the stream ended before its end")

    def _book(self, case: Case, told: Told) -> None:
        self._result.finished += 1
        self._result.tokens += len(told.tokens)
        verdict = judge(case.answer, told.tokens)
        self._result.ties += verdict is Verdict.TIE
        if verdict is Verdict.WRONG:
            self._result.wrong += 1
            self._result.tell(f"wrong: {told.tokens}, not {case.answer.tokens}")

    async def serves(self, case: Case) -> bool:
        """Whether a request is answered now; it is booked nowhere."""
        try:
            await self._once(case, Told())
        except (ToldError, httpx.HTTPError):
            return False
        return True


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "untyped"
