"""The router's own queue: bounded dispatch, deadlines, and moving what waits."""

from hypothesis import given
from hypothesis import strategies as st

from router.policy.waiting import Kept, Place, WaitingRoom

BOTH = 0b11


def room(*kept, ahead_s=1.0):
    made = WaitingRoom(ahead_s)
    for number, due_s in kept:
        made.add(Kept(number, due_s))
    return made


def always(worker, work_s=1.0):
    return lambda _kept, _queues: Place(worker, work_s)


def least(work_s=1.0):
    return lambda _kept, queues: Place(queues.index(min(queues)), work_s)


def sent(released):
    return [(kept.number, place.worker) for kept, place in released]


def test_a_worker_gets_no_more_than_the_bound_ahead() -> None:
    made = room((1, 9.0), (2, 9.0), (3, 9.0))
    assert sent(made.release([0.0, 0.0], BOTH, 0.0, always(0))) == [(1, 0), (2, 0)]
    assert made.next_room_s([2.0, 0.5], BOTH) == 1.0
    assert sent(made.release([1.0, 0.5], BOTH, 1.0, always(0))) == [(3, 0)]
    assert not made
    assert made.next_room_s([2.0, 0.5], BOTH) is None


def test_what_waits_moves_when_another_worker_becomes_better() -> None:
    made = room((1, 9.0))
    assert made.release([5.0, 5.0], BOTH, 0.0, always(0)) == []
    assert sent(made.release([5.0, 0.0], BOTH, 1.0, least())) == [(1, 1)]


def test_the_one_with_the_most_work_is_put_off_for_the_others() -> None:
    works = {1: 3.0, 2: 1.0, 3: 1.0}
    made = room((1, 4.0), (2, 4.1), (3, 4.2), ahead_s=0.0)
    out = made.release([0.0], 1, 0.0, lambda kept, _: Place(0, works[kept.number]))
    assert sent(out) == [(2, 0)]


def test_what_is_late_anyway_pushes_nobody_out() -> None:
    works = {1: 9.0, 2: 1.0}
    made = room((1, 5.0), (2, 6.0), ahead_s=0.0)
    assert sent(made.release([0.0], 1, 0.0, lambda k, _: Place(0, works[k.number]))) == [(2, 0)]
    assert sent(made.release([0.0], 1, 1.0, lambda k, _: Place(0, works[k.number]))) == [(1, 0)]


def test_the_late_do_not_starve() -> None:
    made, now = room((0, -1.0), ahead_s=0.0), 0.0
    for number in range(1, 20):
        made.add(Kept(number, now + 100.0))
        out = sent(made.release([0.0], 1, now, always(0, 0.1)))
        if out == [(0, 0)]:
            break
    assert number == 11


def test_who_left_is_gone_and_a_closed_pool_keeps_everything() -> None:
    made = room((1, 9.0), (2, 9.0))
    assert made.remove(1) == Kept(1, 9.0)
    assert made.remove(1) is None
    assert made.release([0.0], 0, 0.0, always(0)) == []
    assert made.release([0.0], 1, 0.0, lambda *_: None) == []
    assert len(made) == 1


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 4)), max_size=60), st.floats(0, 3))
def test_everything_is_sent_once_and_within_the_bound(jobs, ahead_s) -> None:
    made, queues, seen = WaitingRoom(ahead_s), [0.0, 0.0], []
    for number, (due_s, _) in enumerate(jobs):
        made.add(Kept(number, due_s))
    for step in range(4 * len(jobs) + 1):
        out = made.release(
            queues, BOTH, step, lambda k, q: Place(q.index(min(q)), jobs[k.number][1])
        )
        for kept, place in out:
            assert queues[place.worker] <= ahead_s
            queues[place.worker] += place.work_s
            seen.append(kept.number)
        queues = [max(q - 4.0, 0.0) for q in queues]
    assert sorted(seen) == list(range(len(jobs)))
