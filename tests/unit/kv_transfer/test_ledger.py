"""What an end keeps of its tickets, and how much of those that are over."""

from __future__ import annotations

from dataclasses import dataclass

from kv_transfer.ledger import Open, Recent
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import SourceState


@dataclass
class One:
    peer: str
    state: SourceState


def opened(*peers: str) -> Open[One]:
    """One open ticket with each."""
    tickets = Open[One]()
    for number, peer in enumerate(peers):
        key = TicketKey(f"t{number}", 0)
        tickets[key] = One(peer, SourceState(key, 1))
    return tickets


def test_open_tickets_are_found_by_peer_and_counted_by_state() -> None:
    tickets = opened("a", "b", "a")
    assert [one.state.key.ticket_id for one in tickets.each("a")] == ["t0", "t2"]
    assert len(tickets.each()) == 3
    assert tickets.peers == {"a", "b"}
    assert tickets.phases == {"opened": 3}


def test_a_ticket_with_no_known_peer_is_not_everybodys() -> None:
    tickets = opened("", "a")
    assert [one.peer for one in tickets.each("")] == [""]


def test_tickets_may_close_while_each_is_looked_at() -> None:
    tickets = opened("a", "a")
    for one in tickets.each():
        del tickets[one.state.key]
    assert not tickets


def test_the_oldest_are_forgotten() -> None:
    recent = Recent[int, str](2)
    for number in (1, 2, 3):
        recent[number] = str(number)
    assert list(recent) == [2, 3]


def test_a_known_one_displaces_nothing() -> None:
    recent = Recent[int, str](2)
    recent[1] = recent[2] = "first"
    recent[1] = "again"
    assert dict(recent) == {1: "again", 2: "first"}
