from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from benchmarks.soak_faults import (
    LOSSES_MAX,
    UNSPOILT,
    Fate,
    Postman,
    Spoil,
    fate,
    name_in,
    spoil_of,
    ticket_name,
)

DELAY_S = 0.3


def message(number: int, spoil: Spoil) -> bytes:
    """Some message of the ticket with these faults."""
    return b"\x01\x02" + msgspec.msgpack.encode((ticket_name(1, number, spoil), 0))


@pytest.mark.parametrize("spoil", [UNSPOILT, Spoil(1, 22, 33, 4), Spoil(stop_at=3)])
def test_a_ticket_name_carries_its_faults(spoil: Spoil) -> None:
    assert spoil_of(ticket_name(7, 12, spoil)) == spoil
    assert spoil_of(ticket_name(7, 12, spoil) + "0.p") == spoil


def test_other_names_carry_none() -> None:
    assert spoil_of("r12") == UNSPOILT
    assert name_in(b"\x00baton and an endpoint") is None


def test_the_name_is_found_in_a_message() -> None:
    spoil = Spoil(drop=15, delay=20)
    assert name_in(message(5, spoil)) == ticket_name(1, 5, spoil)


@pytest.mark.parametrize(
    ("spoil", "harmless"),
    [
        (UNSPOILT, True),
        (Spoil(repeat=50), True),
        (Spoil(drop=1), False),
        (Spoil(delay=1), False),
        (Spoil(stop_at=1), False),
    ],
)
def test_only_losses_and_delays_harm(spoil: Spoil, harmless: bool) -> None:
    assert spoil.harmless is harmless


def test_fates_come_in_their_shares() -> None:
    chance = random.Random(3)
    drawn = Counter(fate(Spoil(drop=10, repeat=20, delay=30), chance) for _ in range(4000))
    shares = {kind: round(100 * drawn[kind] / 4000) for kind in Fate}
    wanted = {Fate.DROPPED: 10, Fate.REPEATED: 20, Fate.DELAYED: 30, Fate.ARRIVED: 40}
    assert all(abs(shares[kind] - wanted[kind]) <= 3 for kind in Fate)


def delivered(spoil: Spoil, at_s: tuple[float, ...]) -> list[int]:
    """How many messages are heard at each of these times, one having arrived at the first."""
    postman = Postman(DELAY_S)
    mail = [("peer", message(1, spoil))]
    return [len(postman.deliver(mail * (i == 0), now)) for i, now in enumerate(at_s)]


def test_what_a_postman_does() -> None:
    soon_and_late = (0.0, DELAY_S, 2 * DELAY_S)
    assert delivered(UNSPOILT, soon_and_late) == [1, 0, 0]
    assert delivered(Spoil(drop=100), soon_and_late) == [0, 0, 0]
    assert delivered(Spoil(repeat=100), soon_and_late) == [1, 1, 0]
    assert delivered(Spoil(delay=100), soon_and_late) == [0, 1, 0]


def test_a_delayed_message_is_overtaken() -> None:
    postman = Postman(DELAY_S)
    late, fast = message(1, Spoil(delay=100)), message(2, UNSPOILT)
    assert postman.deliver([("a", late), ("a", fast)], 0.0) == [("a", fast)]
    assert postman.deliver([], 1.0) == [("a", late)]


def test_losses_of_one_ticket_are_bounded() -> None:
    postman = Postman(DELAY_S)
    mail = [("peer", message(1, Spoil(drop=100)))] * (LOSSES_MAX + 2)
    assert len(postman.deliver(mail, 0.0)) == 2


def test_messages_about_no_ticket_of_ours_pass() -> None:
    postman = Postman(DELAY_S)
    assert postman.deliver([("a", b"\x00baton")], 0.0) == [("a", b"\x00baton")]
    assert not postman.fates


def test_the_same_tickets_meet_the_same_faults() -> None:
    spoil = Spoil(drop=30, repeat=20, delay=20)
    mail = [("a", message(number, spoil)) for number in range(50)]
    postmen = [Postman(DELAY_S), Postman(DELAY_S)]
    assert postmen[0].deliver(mail, 0.0) == postmen[1].deliver(mail, 0.0)
    assert postmen[0].fates == postmen[1].fates
    assert len(postmen[0].fates) == len(Fate)
