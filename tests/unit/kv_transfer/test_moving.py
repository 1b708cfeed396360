"""Peers are introduced once, and those that cannot be used come with the reason."""

from __future__ import annotations

from kv_transfer.endpoint import decode_endpoint, encode_endpoint
from kv_transfer.moving import HELLO, MoverLimits, Results, connect
from kv_transfer.ticket import codec
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.fakes import OTHER_LAYOUT, FakeAgent, Network


def agents() -> tuple[FakeAgent, FakeAgent, Network]:
    network = Network()
    return FakeAgent("one", network), FakeAgent("other", network), network


def test_a_new_peer_is_told_who_we_are_and_a_known_one_is_not() -> None:
    one, other, network = agents()
    endpoint = encode_endpoint(other.endpoint())
    assert connect(one, endpoint) == ("other", None)
    assert connect(one, endpoint) == ("other", None)
    (letter,) = network.sent
    assert letter.receiver == "other"
    assert decode_endpoint(letter.data.removeprefix(HELLO)) == one.endpoint()


def test_an_unreadable_peer_has_no_name_and_a_reason() -> None:
    one, _, network = agents()
    name, fault = connect(one, b"garbage")
    assert name == ""
    assert "unreadable" in (fault or "")
    assert network.sent == []


def test_an_unlike_peer_has_no_name_and_a_reason() -> None:
    one, _, network = agents()
    unlike = FakeAgent("unlike", network, OTHER_LAYOUT)
    name, fault = connect(one, encode_endpoint(unlike.endpoint()))
    assert name == ""
    assert "fingerprint" in (fault or "")
    assert network.sent == []


def test_an_introduction_is_no_message_of_a_ticket() -> None:
    assert HELLO[0] != codec.VERSION


def test_checks_are_full_unless_said_otherwise() -> None:
    assert MoverLimits(1, 1).checking is Checking.FULL
    assert Results() == Results(set(), set(), {})
