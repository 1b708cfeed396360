"""How long a stream was interrupted, from the moments at which its tokens came."""

from __future__ import annotations

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from benchmarks.faults_streams import Stream, gap_at, stall_since


def _stream(*times: float, broken: tuple[float, ...] = ()) -> Stream:
    return Stream(RequestId("r"), list(range(len(times))), list(times), list(broken))


def test_a_pause_is_from_the_last_token_before_to_the_first_after() -> None:
    stream = _stream(1.0, 1.1, 2.6, 2.7, broken=(2.3,))
    pause = stream.pause_since(1.05)
    assert pause is not None
    assert abs(pause - 1.5) < 1e-9


def test_tokens_that_still_came_after_the_fault_belong_to_what_was_before() -> None:
    pause = _stream(1.0, 1.2, 2.0, broken=(1.3,)).pause_since(1.1)
    assert pause is not None
    assert abs(pause - 0.8) < 1e-9


def test_a_stream_that_was_not_placed_again_has_no_pause() -> None:
    assert _stream(1.0, 9.0).pause_since(2.0) is None
    assert _stream(1.0, 9.0, broken=(1.5,)).pause_since(2.0) is None


def test_a_stream_that_never_went_on_has_no_pause() -> None:
    assert _stream(1.0, broken=(2.0,)).pause_since(1.5) is None
    assert gap_at([], 1.0) is None


def test_a_stall_is_the_longest_gap_that_reaches_beyond_the_fault() -> None:
    assert stall_since([0.0, 5.0, 6.0, 8.0], 5.5) == 2.0
    assert stall_since([0.0, 5.0], 2.0) == 5.0
    assert stall_since([0.0, 5.0], 6.0) == 0.0


def test_the_first_error_stays() -> None:
    stream = _stream(1.0)
    assert stream.streams
    stream.end(BatonError(Reason.WORKER_LOST, "first"))
    stream.end(BatonError(Reason.INTERNAL, "second"))
    assert not stream.streams
    assert stream.error is not None
    assert stream.error.reason is Reason.WORKER_LOST
