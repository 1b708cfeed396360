"""What SIGTERM does to a process. No signal is sent here."""

import inspect
import signal

from cluster.leaving import Leaving, listening

ENDED = 128 + signal.SIGTERM


def test_the_first_signal_asks_the_second_ends() -> None:
    asked, ended = [], []
    leaving = Leaving(lambda: not asked.append(1), ended.append)
    leaving.arrived(signal.SIGTERM, None)
    assert (asked, ended) == ([1], [])
    leaving.arrived(signal.SIGTERM, None)
    assert (asked, ended) == ([1], [ENDED])


def test_who_has_nothing_to_finish_ends_at_once() -> None:
    ended: list[int] = []
    Leaving(lambda: False, ended.append).arrived(signal.SIGTERM, None)
    assert ended == [ENDED]


def test_a_forked_child_ends_at_once() -> None:
    asked, ended = [], []
    leaving = Leaving(lambda: not asked.append(1), ended.append)
    leaving._pid += 1
    leaving.arrived(signal.SIGTERM, None)
    assert (asked, ended) == ([], [ENDED])


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name

    def leave(self) -> bool:
        return self.name == "one"

    def join(self, *others: str) -> str:
        return " ".join((self.name, *others))

    async def _run(self) -> None: ...


def test_a_listening_class_does_the_same_and_hears() -> None:
    cls = listening(Thing)
    before = signal.getsignal(signal.SIGTERM)
    try:
        thing = cls("one")
        handler = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (cls.__name__, cls.__module__) == ("Thing", Thing.__module__)
    assert thing.join("two", "three") == "one two three"
    assert handler.__self__._leave == thing.process.leave
    # For Ray: a coroutine among its methods would make it another kind of actor.
    assert not any(map(inspect.iscoroutinefunction, vars(cls).values()))
