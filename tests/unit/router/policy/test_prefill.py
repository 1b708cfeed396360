"""One router's prefill desk: everything that arrives is sent once, asked first where allowed."""

from hypothesis import given
from hypothesis import strategies as st

from baton import prefix_keys as keys
from baton.costs import PrefillCurve
from router.policy import rings
from router.policy.index import Shadow
from router.policy.prefill import Answer, Ask, DeskRules, PrefillDesk, Request, Send, State

RINGS = rings.build([f"w{n}" for n in range(4)], virtual_nodes=32)


def desk(**rules):
    shadow = Shadow(4, 1_000)
    made = PrefillDesk(RINGS, [PrefillCurve(0.01, 1e-4)] * 4, shadow.match, DeskRules(**rules))
    return made, shadow


def request(number, blocks=8, family=0, due_s=5.0):
    names = keys.of_hashes(range(family, family + blocks), 1)
    return Request(number, due_s, blocks * 512, names, names, 512)


def state(*queue_s, fresh=True):
    return State(queue_s or (0.0,) * 4, 0b1111, fresh)


def test_a_free_pool_takes_a_request_at_once_and_a_busy_one_leaves_it_here() -> None:
    made, _ = desk()
    (send,) = made.arrived(request(1), state(), 0.0)
    assert isinstance(send, Send)
    busy = state(3.0, 3.0, 3.0, 2.0)
    assert made.arrived(request(2), busy, 0.0) == []
    assert (len(made), made.next_room_s(busy)) == (1, 1.0)
    assert [s.worker for s in made.released(state(3.0, 3.0, 3.0, 0.5), 1.0)] == [3]
    assert made.next_room_s(busy) is None


def test_the_same_prefix_goes_to_the_same_worker() -> None:
    made, shadow = desk()
    (first,) = made.arrived(request(1), state(), 0.0)
    shadow.sent(first.worker, first.request.blocks)
    queues = [0.0] * 4
    queues[first.worker] = 0.2
    (again,) = made.arrived(request(2, blocks=9), state(*queues), 0.0)
    assert again.worker == first.worker


def test_routers_that_ask_find_what_others_sent() -> None:
    (made, _), (other, _) = desk(may_ask=True), desk(may_ask=True)
    (ask,), (same,) = (d.arrived(request(1), state(fresh=False), 0.0) for d in (made, other))
    assert isinstance(ask, Ask)
    assert ask.workers == same.workers
    warm = ask.workers[-1]
    answers = [Answer(w, 0.1, 4_000 if w == warm else 0) for w in ask.workers]
    (send,) = made.answered(ask.request, answers, state(), 0.0)
    assert (send.worker, send.queue_max_s < 0.5) == (warm, True)


def test_after_some_refusals_a_worker_may_no_longer_refuse() -> None:
    made, _ = desk(may_ask=True, ask_rounds=2)
    (ask,) = made.arrived(request(1), state(fresh=False), 0.0)
    answers = [Answer(w, 1.0, 0) for w in ask.workers]
    limits = [made.answered(ask.request, answers, state(), 0.0)[0].queue_max_s for _ in range(3)]
    assert limits[0] < 2 < limits[-1] == float("inf")


def test_who_leaves_is_forgotten() -> None:
    made, _ = desk()
    made.arrived(request(1), state(9.0, 9.0, 9.0, 9.0), 0.0)
    assert made.left(1)
    assert not made.left(1)


def test_a_router_learns_how_much_others_leave_at_a_home() -> None:
    made, _ = desk()
    for number in range(300):
        (send,) = made.arrived(
            request(number, family=number * 10, due_s=1e9), state(fresh=False), 0.0
        )
        made.computed(send, 0)
    assert made.reuse.expected.first < 0.1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=40), st.booleans())
def test_everything_is_sent_exactly_once(arrivals, fresh) -> None:
    made, shadow = desk()
    queues, sent = [0.0] * 4, []
    for now in range(len(arrivals) * 5):
        words = made.released(state(*queues, fresh=fresh), now)
        if now < len(arrivals):
            family, blocks = arrivals[now]
            one = request(now, blocks, family * 50, now + 5.0)
            words = [*words, *made.arrived(one, state(*queues, fresh=fresh), now)]
        for word in words:
            queues[word.worker] += 2.0
            shadow.sent(word.worker, word.request.blocks)
            made.computed(word, 0)
            sent.append(word.request.number)
        queues = [max(q - 1.0, 0.0) for q in queues]
    assert sorted(sent) == list(range(len(arrivals)))
