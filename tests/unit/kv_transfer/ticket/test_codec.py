"""Every message survives the way; nothing else becomes one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.ticket.codec import (
    MESSAGE_BYTES_MAX,
    VERSION,
    MalformedMessageError,
    decode,
    encode,
)
from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(0, 2**40)
KEYS = st.builds(TicketKey, WORDS, NUMBERS)


@st.composite
def registers(draw):
    blocks = tuple(draw(st.lists(NUMBERS, min_size=1, max_size=50, unique=True)))
    first = draw(st.integers(0, 1000))
    seconds = draw(st.floats(0.001, 1e6))
    return Register(draw(KEYS), first, blocks, first + len(blocks), seconds)


@st.composite
def writtens(draw):
    count = draw(st.integers(1, 50))
    sums = draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count))
    kept = tuple(sums) if draw(st.booleans()) else ()
    where = draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)
    layer, layers = draw(st.integers(0, 200)), draw(st.integers(1, 200))
    return Written(draw(KEYS), *where, count, kept, layer, layers)


CLOSEDS = st.builds(Closed, KEYS, st.none() | WORDS, st.integers(0, 63))
ALIVES = st.builds(Alive, KEYS, st.booleans())
MESSAGES = registers() | writtens() | CLOSEDS | ALIVES | st.builds(Withdraw, KEYS)
KEY = TicketKey("t", 0)


@given(MESSAGES)
def test_round_trip(message):
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_error(data):
    try:
        message = decode(data)
    except MalformedMessageError:
        return
    assert decode(encode(message)) == message


@given(MESSAGES, st.data())
def test_damage_is_refused_or_makes_another_valid_message(message, data):
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = decode(bytes(damaged))
    except MalformedMessageError:
        return
    assert decode(encode(again)) == again


@given(MESSAGES, st.data())
def test_parts_of_messages_are_refused(message, data):
    whole = encode(message)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for wrong in (part, whole + b"\0", bytes((whole[0] + 1,)) + whole[1:]):
        with pytest.raises(MalformedMessageError):
            decode(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((1, ("t", 0, 0, (), 0, 1.0)), id="no-blocks"),
        pytest.param((1, ("t", 0, 0, (1, 1), 2, 1.0)), id="block-twice"),
        pytest.param((1, ("t", 0, -1, (1,), 0, 1.0)), id="negative-position"),
        pytest.param((1, ("t", 0, 0, (-1,), 1, 1.0)), id="negative-block"),
        pytest.param((1, ("t", 0, 0, (1,), 2, 1.0)), id="not-all"),
        pytest.param((1, ("t", 0, 0, (1,), 1, 0.0)), id="no-time"),
        pytest.param((1, ("t", 0, 0, (1,), 1, float("inf"))), id="for-ever"),
        pytest.param((1, ("t", 0, 0, (1,), 1, float("nan"))), id="no-number"),
        pytest.param((3, ("t", 0, 0, 0, 0, 0, (), 0, 1)), id="nothing-written"),
        pytest.param((3, ("t", 0, 0, 0, 0, 2, (1,), 0, 1)), id="too-few-sums"),
        pytest.param((3, ("t", 0, 0, -1, 0, 1, (), 0, 1)), id="negative-rank"),
        pytest.param((3, ("t", 0, 0, 0, -1, 1, (), 0, 1)), id="negative-first"),
        pytest.param((3, ("t", 0, 0, 0, 0, 1, (), -1, 1)), id="negative-layer"),
        pytest.param((3, ("t", 0, 0, 0, 0, 1, (), 0, 0)), id="no-layer"),
        pytest.param((3, ("t", 0, 0, 0, 0, 1, ())), id="without-layers"),
        pytest.param((5, ("t", 0, 1)), id="begun-as-number"),
        pytest.param((5, ("t", 0)), id="begun-missing"),
        pytest.param((2, ("t", "0")), id="epoch-as-text"),
        pytest.param((4, ("t", 0, 7, 0)), id="reason-as-number"),
    ],
)
def test_contradictions_are_refused(fields):
    kind, body = fields
    with pytest.raises(MalformedMessageError):
        decode(bytes((VERSION, kind)) + msgspec.msgpack.encode(body))


def test_size_is_bounded():
    with pytest.raises(MalformedMessageError):
        decode(bytes((VERSION, 2)) + b"\0" * MESSAGE_BYTES_MAX)


@pytest.mark.parametrize("version", [0, 1, VERSION + 1])
def test_another_version_is_refused(version):
    with pytest.raises(MalformedMessageError):
        decode(bytes((version,)) + encode(Alive(KEY, begun=True))[1:])


def test_the_bodies_that_contradict_nothing_are_messages():
    """The refusals above are for what they name, not for their number of fields."""
    body = msgspec.msgpack.encode(("t", 0, 2, 1, 3, 2, (8, 9), 4, 5))
    assert decode(bytes((VERSION, 3)) + body) == Written(KEY, 2, 1, 3, 2, (8, 9), 4, 5)
    body = msgspec.msgpack.encode(("t", 0, True))
    assert decode(bytes((VERSION, 5)) + body) == Alive(KEY, begun=True)


def test_a_registration_of_a_long_prompt_fits():
    blocks = tuple(range(100_000, 165_536))
    message = Register(KEY, 0, blocks, len(blocks), 30.0)
    assert decode(encode(message)) == message
