"""Anything that the OpenAPI description allows, and much that it does not: no 500, no hang.

HYPOTHESIS_MAX_EXAMPLES in the environment sets how many inputs are tried.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.http.support import House

pytestmark = [
    pytest.mark.wire,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(0),
]
INPUTS = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "120"))
TOKENS_MAX = 40
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def requests(description: dict[str, Any]) -> Any:
    """Requests to the routes that take a body: as described, altered, or no JSON at all."""
    api = schemathesis.openapi.from_dict(description)
    posts = [found.ok() for found in api.get_all_operations() if found.ok().method == "post"]
    assert len(posts) > 5
    cases = st.one_of([one.as_strategy().map(lambda c: (c.path, c.body)) for one in posts])
    paths = st.sampled_from([one.path for one in posts])
    altered = st.tuples(cases, st.text(max_size=12), JSON).map(_altered)
    raw = st.tuples(paths, st.binary(max_size=200) | JSON)
    return st.one_of(cases, altered, altered, raw)


def _altered(drawn: Any) -> tuple[str, Any]:
    (path, body), name, value = drawn
    if not isinstance(body, dict) or not body:
        return path, value
    names = sorted(body)
    return path, {**body, names[len(name) % len(names)]: value}


def _content(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, dict):
        # Left out they mean all that the model has room for, which only takes time.
        body = {**body, **{name: TOKENS_MAX for name in _LENGTHS if body.get(name) is None}}
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return repr(body).encode("utf-8", "surrogatepass")


async def _answer(house: House, path: str, body: Any) -> int:
    headers = {"content-type": "application/json"}
    answer = await house.client.post(path, content=_content(body), headers=headers)
    assert answer.status_code < 500, (path, body, answer.text[:500])
    # Each of them is readable, whatever it says.
    if answer.status_code >= 400:
        assert answer.json(), (path, body)
    return answer.status_code


async def test_any_request_has_an_answer_that_is_no_fault(house: House):
    loop, seen = asyncio.get_running_loop(), Counter[int]()
    description = (await house.client.get("/openapi.json")).json()

    @settings(max_examples=INPUTS, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(requests(description), min_size=1, max_size=4))
    def try_them(several: list[tuple[str, Any]]) -> None:
        async def all_of_them() -> list[int]:
            return await asyncio.gather(*(_answer(house, *one) for one in several))

        seen.update(asyncio.run_coroutine_threadsafe(all_of_them(), loop).result(60))

    await asyncio.to_thread(try_them)
    assert {200, 400} <= set(seen), seen
    print(f"{seen.total()} inputs: {dict(seen)}")


async def test_a_stream_of_fragments_is_no_request(house: House):
    """Bytes that are no HTTP end the connection, and the server lives on."""

    @settings(max_examples=INPUTS, database=None)
    @given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3))
    def try_them(pieces: list[bytes]) -> None:
        asyncio.run_coroutine_threadsafe(_say(house.port, pieces), loop).result(30)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(try_them)
    answer = await house.client.get("/health")
    assert answer.status_code == httpx.codes.OK


async def _say(port: int, pieces: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        pass
    finally:
        writer.close()
