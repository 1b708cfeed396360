"""Deadlines come due once, in order, and leave nothing behind."""

from baton.ids import RequestId
from router.deadlines import Deadlines


def test_what_is_due_comes_out_once_the_earliest_first() -> None:
    deadlines = Deadlines()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        deadlines.add(RequestId(name), at)
    deadlines.discard(RequestId("unknown"))
    assert deadlines.due(0.5) == []
    assert deadlines.due(2.0) == ["a", "b"]
    assert deadlines.due(2.0) == []
    assert len(deadlines) == 1


def test_discarded_ones_never_come_due_and_take_no_space() -> None:
    deadlines = Deadlines()
    for n in range(10_000):
        deadlines.add(RequestId(str(n)), 600.0 + n)
        deadlines.discard(RequestId(str(n)))
    assert len(deadlines._heap) < 100
    assert deadlines.due(1e9) == []


def test_an_id_may_come_back_with_another_deadline() -> None:
    deadlines = Deadlines()
    deadlines.add(RequestId("r"), 1.0)
    deadlines.discard(RequestId("r"))
    deadlines.add(RequestId("r"), 5.0)
    assert deadlines.due(2.0) == []
    assert deadlines.due(5.0) == ["r"]
