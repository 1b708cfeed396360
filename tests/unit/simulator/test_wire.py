import pytest

from baton.ids import WorkerId
from simulator.rules import NetworkRules
from simulator.wire import Stream, Wires

A, B, C, D = map(WorkerId, "abcd")


def wires(**rules) -> Wires:
    """1,000 bytes per token: 0.1 ms per token, 0.01 ms within a host."""
    basis = {"bytes_per_s": 1e7, "host_bytes_per_s": 1e8, "latency_s": 0.5, "layers": 1}
    return Wires(NetworkRules(**(basis | rules)), 1000)


def stream(source=A, target=B, near=False, **state) -> Stream:
    return Stream(source, target, near, **state)


def test_chunks_leave_as_they_are_computed():
    w, s = wires(), stream(open=True, computed=1000)
    w.push(s, 1.0, 1.0)
    assert s.landed_s == pytest.approx(1.1)
    s.computed = 3000
    w.push(s, 2.0, 2.0)
    assert s.landed_s == pytest.approx(2.2)
    assert w.arrival_s(s) == pytest.approx(2.7)
    assert (s.sent, w.moved_tokens) == (3000, 3000)


def test_nothing_leaves_without_memory_at_the_target():
    w, s = wires(), stream(computed=1000)
    w.push(s, 1.0, 1.0)
    assert (s.sent, w.moved_tokens) == (0, 0)
    s.open = True
    w.push(s, 5.0, 5.0)
    assert s.landed_s == pytest.approx(5.1)


def test_without_streaming_all_leaves_at_the_end():
    w, s = wires(streamed=False), stream(open=True, computed=1000)
    w.push(s, 1.0, 1.0)
    assert s.sent == 0
    s.computed, s.whole = 2000, True
    w.push(s, 2.0, 2.0)
    assert s.landed_s == pytest.approx(2.2)


def test_what_the_target_holds_is_not_sent():
    w, s = wires(), stream(open=True, sent=512, computed=512)
    w.push(s, 1.0, 1.0)
    s.computed = 612
    w.push(s, 2.0, 2.0)
    assert (s.landed_s, w.moved_tokens) == (pytest.approx(2.01), 100)
    whole = stream(open=True, whole=True, sent=1024, computed=1000)
    w.push(whole, 3.0, 3.0)
    assert whole.landed_s == 3.0


def test_a_worker_sends_and_receives_one_thing_at_a_time():
    w = wires()
    first, sender, receiver, other = stream(), stream(A, D), stream(C, B), stream(C, D, near=True)
    for s in (first, sender, receiver, other):
        s.open, s.computed = True, 1000
        w.push(s, 1.0, 1.0)
    assert first.landed_s == pytest.approx(1.1)
    assert sender.landed_s == pytest.approx(1.2)
    assert receiver.landed_s == pytest.approx(1.2)
    assert other.landed_s == pytest.approx(1.21)
    assert w.backlog_s(A, 1.0) == pytest.approx(0.2)
    assert w.backlog_s(A, 9.0) == 0.0


def test_layers_leave_while_others_are_computed():
    w, s = wires(layers=4), stream(open=True, computed=1000)
    # Computed from 1.0 to 1.2: the wire is faster, so that only the last layer is left.
    w.push(s, 1.2, 1.0)
    assert s.landed_s == pytest.approx(1.2 + 0.1 / 4)
    # The wire is slower: it is busy from the first layer on.
    w, s = wires(layers=4), stream(open=True, computed=8000)
    w.push(s, 1.2, 1.0)
    assert s.landed_s == pytest.approx(1.05 + 0.8)
