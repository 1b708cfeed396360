"""Any message and any bytes: a typed status, and a server that lives on.

HYPOTHESIS_MAX_EXAMPLES in the environment sets how many inputs each test tries.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import grpc
import pytest
from baton_client.v1 import service_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.http.support import until
from tests.wire.rpc.support import House, generate, refusal_of

pytestmark = [
    pytest.mark.wire,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(0),
]
INPUTS = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "150"))
TOKENS_MAX = 40
METHODS: dict[str, type[Message]] = {
    "Generate": pb.GenerateRequest,
    "CountTokens": pb.CountTokensRequest,
    "Embed": pb.EmbedRequest,
    "GetStory": pb.GetStoryRequest,
    "ListModels": pb.ListModelsRequest,
}
Code = grpc.StatusCode
TYPED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.UNIMPLEMENTED,
    Code.ALREADY_EXISTS,
    Code.RESOURCE_EXHAUSTED,
}
TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", "demo", "Hi", "{}", '{"type": "object"}', "[", "(a|b)*", "user", "a" * 9000]
    ),
)
NUMBERS = {
    FieldDescriptor.CPPTYPE_UINT32: st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1)),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: st.one_of(
        st.floats(width=32), st.sampled_from([0.0, 0.5, 1.0, float("nan"), float("inf")])
    ),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 5),
    FieldDescriptor.CPPTYPE_STRING: TEXT,
}


@st.composite
def messages(draw: Any, kind: Any) -> Message:
    """Any message of this type: each field left out, or filled with what its type holds."""
    made = kind()
    for field in kind.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None:
            of = messages(getattr(pb, field.message_type.name))
        else:
            of = NUMBERS[field.cpp_type]
        if field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(of, max_size=4)))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(of))
        else:
            setattr(made, field.name, draw(of))
    return made


def inputs() -> Any:
    whole = st.sampled_from(sorted(METHODS)).flatmap(
        lambda name: st.tuples(st.just(name), messages(METHODS[name]).map(_raw))
    )
    asked = st.tuples(st.just("Generate"), messages(pb.GenerateRequest).map(_raw))
    broken = st.tuples(st.sampled_from(sorted(METHODS)), st.binary(max_size=200))
    cut = st.tuples(asked, st.integers(0, 400)).map(lambda one: (one[0][0], one[0][1][: one[1]]))
    return st.one_of(asked, asked, whole, broken, cut)


def _raw(message: Message) -> bytes:
    if isinstance(message, pb.GenerateRequest) and not message.sampling.max_tokens:
        # Left out it means all that the model has room for, which only takes time.
        message.sampling.max_tokens = TOKENS_MAX
    return message.SerializeToString()


async def _status(house: House, name: str, raw: bytes) -> grpc.StatusCode:
    method = house.channel.unary_stream(f"/baton.v1.Baton/{name}")
    try:
        async for _ in method(raw, timeout=30):
            pass
    except grpc.aio.AioRpcError as error:
        found = refusal_of(error)
        assert found.reason, f"no details: {found}"
        return found.code
    return Code.OK


async def test_any_input_has_a_typed_end(house: House):
    loop = asyncio.get_running_loop()
    seen: Counter[grpc.StatusCode] = Counter()

    @settings(max_examples=INPUTS, database=None)
    @given(st.lists(inputs(), min_size=1, max_size=4))
    def try_them(several: list[tuple[str, bytes]]) -> None:
        async def all_of_them() -> list[grpc.StatusCode]:
            return await asyncio.gather(*(_status(house, *one) for one in several))

        found = asyncio.run_coroutine_threadsafe(all_of_them(), loop).result(60)
        assert TYPED.issuperset(found), found
        seen.update(found)

    await asyncio.to_thread(try_them)
    assert {Code.OK, Code.INVALID_ARGUMENT} <= set(seen)
    print(f"{seen.total()} inputs: {dict(seen)}")
    await until(lambda: not house.heart.live)
    assert await generate(house)
