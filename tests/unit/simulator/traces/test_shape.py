import pytest

from simulator.traces.request import Trace
from simulator.traces.shape import at_load, chained, cut_inputs, first
from tests.unit.simulator.builders import request, trace

THREE = trace(request(0, 0, 600), request(1, 1, 100), request(2, 4, 1500))


def test_at_load_stretches_all_gaps_alike():
    half = at_load(THREE, THREE.per_second / 2)
    assert [r.arrival_s for r in half.requests] == [0, 2, 8]
    assert half.per_second == pytest.approx(THREE.per_second / 2)
    assert half.requests[2].blocks == THREE.requests[2].blocks


@pytest.mark.parametrize("load", [0, -1, float("nan")])
def test_a_load_is_positive(load):
    with pytest.raises(ValueError, match="above 0"):
        at_load(THREE, load)


def test_simultaneous_requests_have_no_load():
    with pytest.raises(ValueError, match="all come at once"):
        at_load(trace(request(0, 1, 5), request(1, 1, 5)), 2)


def test_cut_inputs():
    cut = cut_inputs(THREE, 600)
    assert [r.input_tokens for r in cut.requests] == [600, 100, 600]
    assert [len(r.blocks) for r in cut.requests] == [2, 1, 2]
    assert cut.requests[0] is THREE.requests[0]
    with pytest.raises(ValueError, match="at least one token"):
        cut_inputs(THREE, 0)


def test_first_and_empty():
    assert len(first(THREE, 2).requests) == 2
    assert first(THREE, 9).requests == THREE.requests
    assert Trace("empty", ()).seconds == 0


def test_chained_keys_are_equal_where_prefixes_are():
    keys = [(0, 1), (0, 2), (5, 1), (2**127 - 1, -(2**127))]
    made = chained(trace(*(request(n, n, 1024, keys=k) for n, k in enumerate(keys))))
    one, fork, other, far = (r.blocks for r in made.requests)
    assert one[0] == fork[0] != other[0]
    assert len({one[1], fork[1], other[1], far[1]}) == 4
    assert all(0 <= key < 2**60 for r in made.requests for key in r.blocks)
    assert made.requests[2].input_tokens == 1024
