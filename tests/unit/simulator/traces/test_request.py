import math

from simulator.traces.request import Request, Trace, blocks_of


def test_blocks():
    assert [blocks_of(n) for n in (1, 512, 513)] == [1, 1, 2]
    assert Request(0, 0, 1023, 1, (1, 2)).whole_blocks == 1


def test_load_of_a_trace():
    one = Request(0, 2.0, 1, 1, (1,))
    assert Trace("one", (one,)).per_second == math.inf
    assert Trace("two", (one, Request(1, 4.0, 1, 1, (2,)))).per_second == 1.0
