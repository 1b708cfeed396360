"""A peer's death is news once, some rounds after it, and only where somebody asks."""

from __future__ import annotations

from kv_transfer.liveness import ProcessName
from kv_transfer.obituary import QUIET_ROUNDS, Obituary

NAME = ProcessName("host", 7, 1)


def test_a_living_peer_is_no_news() -> None:
    obituary = Obituary(lambda _: False)
    obituary.watch("a", NAME)
    assert [obituary.news(["a"]) for _ in range(10)] == [[]] * 10


def test_a_death_is_told_once_after_the_quiet_rounds() -> None:
    obituary = Obituary(lambda process: process == NAME)
    obituary.watch("a", NAME)
    obituary.watch("b", ProcessName("host", 8, 1))
    told = [obituary.news(["a", "b"]) for _ in range(QUIET_ROUNDS + 5)]
    assert told[:QUIET_ROUNDS] == [[]] * QUIET_ROUNDS
    assert [news for news in told if news] == [["a"]]


def test_nobody_asks_for_a_peer_without_tickets() -> None:
    asked: list[ProcessName] = []

    def is_dead(process: ProcessName) -> bool:
        asked.append(process)
        return True

    obituary = Obituary(is_dead)
    obituary.watch("a", NAME)
    assert obituary.news([]) == []
    assert obituary.news(["stranger"]) == []
    assert asked == []


def test_a_declared_death_is_told_once_after_the_quiet_rounds() -> None:
    obituary = Obituary(lambda _: False)
    obituary.watch("a", NAME)
    obituary.declare(["a", "stranger"])
    obituary.declare(["a"])
    told = [obituary.news([]) for _ in range(QUIET_ROUNDS + 5)]
    assert told[:QUIET_ROUNDS] == [[]] * QUIET_ROUNDS
    assert [news for news in told if news] == [["a"]]
    obituary.declare(["a"])
    assert obituary.news(["a"]) == []


def test_a_second_proof_does_not_lengthen_the_quiet_rounds() -> None:
    obituary = Obituary(lambda _: True)
    obituary.watch("a", NAME)
    told = []
    for _ in range(QUIET_ROUNDS + 1):
        told += obituary.news(["a"])
        obituary.declare(["a"])
    assert told == ["a"]
