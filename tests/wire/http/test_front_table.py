"""The table of docs/front-ends.md says of each front end what it does, and is held to it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from baton.errors import BatonError, Reason
from router.policy.tenants import Priority
from tests.wire.fakes import Script
from tests.wire.http.support import BODY_MIB, CHAT, DEMO, TEXT, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCS = Path(__file__).parents[3] / "docs" / "front-ends.md"
FRONTS = ("in-process", "python-processes", "rust")
YES, NO = "yes", "no"
CALL = '<tool_call>\n{"name": "look", "arguments": {"where": "up"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FULL = BatonError(Reason.QUEUE_FULL, "full", retry_after_s=2)
DEAD = BatonError(Reason.ENGINE_FAILED, "dead")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Asker:
    """Asks one front end, whichever it is."""

    def __init__(self, served: Any) -> None:
        self.heart = served.heart
        self._client: httpx.AsyncClient = served.client
        self._tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))

    def script(self, text: str = TEXT, **more: Any) -> None:
        self.heart.script = Script(tokens=self.tokens(text), **more)

    def tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    async def post(self, path: str, headers: Any = None, **body: Any) -> httpx.Response:
        asked = {"model": "demo", **body}
        return await self._client.post(path, json=asked, headers=headers)

    async def complete(self, headers: Any = None, **body: Any) -> httpx.Response:
        return await self.post(
            "/v1/completions", headers, **{"prompt": "Hi", "max_tokens": 64, **body}
        )

    async def chat(self, **body: Any) -> httpx.Response:
        asked = {"messages": CHAT, "max_tokens": 96, "temperature": 0, **body}
        return await self.post("/v1/chat/completions", **asked)

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(path)


Probe = Callable[[Asker], Awaitable[str]]


def status(answer: httpx.Response) -> str:
    """The status, with the reason where it is one of Baton's."""
    reason = answer.headers.get("x-baton-reason")
    return f"{answer.status_code} {reason}" if reason else str(answer.status_code)


def whole(answer: httpx.Response) -> str:
    return YES if answer.status_code == 200 else status(answer)


async def completions(asker: Asker) -> str:
    answer = await asker.complete()
    return YES if answer.json()["choices"][0]["text"] == TEXT else NO


async def streaming(asker: Asker) -> str:
    answer = await asker.chat(stream=True)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    texts = [choice["delta"].get("content") for c in chunks for choice in c["choices"]]
    return YES if "".join(text or "" for text in texts) == TEXT else NO


async def logprobs(asker: Asker) -> str:
    answer = await asker.chat(logprobs=True, top_logprobs=2)
    return YES if answer.json()["choices"][0]["logprobs"]["content"] else NO


async def stop_string(asker: Asker) -> str:
    """Engines know nothing of it: tokens behind it have come by the time it is found."""
    answer = (await asker.complete(stop=[" jumps"])).json()
    said, used = answer["choices"][0], answer["usage"]["completion_tokens"]
    assert (said["text"], said["finish_reason"]) == (TEXT.partition(" jumps")[0], "stop"), said
    tokens = asker.tokens(said["text"] + " jumps")
    return YES if used == len(tokens) else f"{used} of {len(tokens)} tokens"


async def several(asker: Asker) -> str:
    return whole(await asker.complete(n=2))


async def tools(asker: Asker) -> str:
    asker.script(CALL)
    answer = await asker.chat(tools=TOOLS)
    return YES if answer.json()["choices"][0]["message"].get("tool_calls") else NO


async def structured(asker: Asker) -> str:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    await asker.chat(response_format=form)
    params = asker.heart.cores[-1].sampling_params.structured_outputs
    return YES if params is not None and params.json else NO


async def responses(asker: Asker) -> str:
    return whole(await asker.post("/v1/responses", input="Hi", max_output_tokens=64))


async def messages(asker: Asker) -> str:
    return whole(await asker.post("/v1/messages", messages=CHAT, max_tokens=64))


async def tokenize(asker: Asker) -> str:
    return whole(await asker.post("/tokenize", prompt="Hi"))


async def refused(asker: Asker) -> str:
    asker.heart.script = Script(refuse_submit=FULL)
    return status(await asker.complete())


async def retry_after(asker: Asker) -> str:
    asker.heart.script = Script(refuse_submit=FULL)
    return YES if (await asker.complete()).headers.get("retry-after") == "2" else NO


async def refused_stream(asker: Asker) -> str:
    asker.heart.script = Script(refuse_submit=FULL)
    return _stream_error(await asker.complete(stream=True))


async def failed_stream(asker: Asker) -> str:
    asker.script(fail_with=DEAD, fail_after=3)
    return _stream_error(await asker.complete(stream=True))


def _stream_error(answer: httpx.Response) -> str:
    if answer.status_code != 200:
        return status(answer)
    line = next(line for line in answer.text.splitlines() if '"error"' in line)
    return f"200, then {json.loads(line.removeprefix('data: '))['error']['code']}"


async def too_long(asker: Asker) -> str:
    return str((await asker.complete(prompt="word " * 9000)).status_code)


async def foreign_kv(asker: Asker) -> str:
    return status(await asker.complete(vllm_xargs={"kv_transfer_params": {"remote": 1}}))


async def stored(asker: Asker) -> str:
    return status(await asker.post("/v1/responses", input="Hi", previous_response_id="resp_1"))


async def large(asker: Asker) -> str:
    return status(await asker.complete(user="x" * ((BODY_MIB + 1) << 20)))


async def management(asker: Asker) -> str:
    return status(await asker.post("/sleep"))


async def tenant(asker: Asker) -> str:
    await asker.complete({"x-baton-tenant": "acme"})
    return YES if asker.heart.requests[-1].caller.tenant == "acme" else NO


async def time_limit(asker: Asker) -> str:
    await asker.complete({"x-baton-timeout-s": "7"})
    return YES if asker.heart.requests[-1].deadline_s == 7 else NO


async def priority_header(asker: Asker) -> str:
    await asker.complete({"x-baton-priority": "low"})
    return YES if asker.heart.requests[-1].caller.priority is Priority.LOW else NO


async def priority_field(asker: Asker) -> str:
    await asker.complete(priority=2)
    return YES if asker.heart.requests[-1].caller.priority is Priority.LOW else NO


async def cache_salt(asker: Asker) -> str:
    await asker.chat(cache_salt="salt")
    return YES if asker.heart.requests[-1].cache_salt == "salt" else NO


async def trace(asker: Asker) -> str:
    await asker.complete({"traceparent": PARENT})
    return YES if asker.heart.requests[-1].caller.trace is not None else NO


async def explained(asker: Asker) -> str:
    answer = await asker.complete({"x-baton-explain": "1", "x-request-id": "known"})
    return YES if any(name.startswith("x-baton") for name in answer.headers) else NO


async def own_pages(asker: Asker) -> str:
    return whole(await asker.get("/status"))


async def client_left(asker: Asker) -> str:
    asker.script(endless=True, delay_s=0.01)
    asker.heart.aborted.clear()
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 1000, "stream": True}
    async with asker._client.stream("POST", "/v1/completions", json=body) as answer:
        await anext(answer.aiter_bytes())
    await until(lambda: bool(asker.heart.aborted), 5)
    return YES


PROBES: dict[str, Probe] = {
    "Completions": completions,
    "Chat, streamed": streaming,
    "Logprobs": logprobs,
    "Stop strings, their usage exact": stop_string,
    "Several answers (`n`)": several,
    "Tool calls": tools,
    "Structured output": structured,
    "Responses API": responses,
    "Messages API": messages,
    "`/tokenize`": tokenize,
    "A client that leaves frees its request": client_left,
    "Router full": refused,
    "`Retry-After` with it": retry_after,
    "Router full, streaming": refused_stream,
    "Failure in a stream": failed_stream,
    "Prompt too long": too_long,
    "`kv_transfer_params` of a client": foreign_kv,
    "`previous_response_id`": stored,
    "Body above `router.max_body_mib`": large,
    "Management routes (`/sleep`)": management,
    "Tenant by header": tenant,
    "Time limit by header": time_limit,
    "Priority by `x-baton-priority`": priority_header,
    "Priority by the field `priority`": priority_field,
    "`cache_salt`": cache_salt,
    "`traceparent`": trace,
    "`x-baton-explain`": explained,
    "Baton's pages at the API's port": own_pages,
}


def documented() -> dict[str, dict[str, str]]:
    """What the page says: by front end, by probe."""
    rows = [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in DOCS.read_text().splitlines()
        if line.startswith("|")
    ]
    head = next(row for row in rows if row[1:] == [f"`{front}`" for front in FRONTS])
    found = [row for row in rows if len(row) == len(head) and row[0] in PROBES]
    return {front: {row[0]: row[n + 1] for row in found} for n, front in enumerate(FRONTS)}


async def _found(served: Any) -> dict[str, str]:
    asker, found = Asker(served), {}
    for name, probe in PROBES.items():
        asker.script()
        found[name] = await probe(asker)
    asker.script()
    return found


async def test_in_process(house: Any) -> None:
    assert await _found(house) == documented()["in-process"]


async def test_python_processes(python_front: Any) -> None:
    assert await _found(python_front) == documented()["python-processes"]


async def test_rust(rust_front: Any) -> None:
    assert await _found(rust_front) == documented()["rust"]
