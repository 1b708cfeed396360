"""Which decode worker: speed after joining, room, prefix, link."""

from hypothesis import given
from hypothesis import strategies as st

from baton.costs import WorkerCosts
from router.policy.decode_choice import DecodeWhy, DecodeWorker, Link, choose


def worker(name, batch=0, kv=0, room=100_000, **more):
    return DecodeWorker(name, WorkerCosts(), batch, kv, room, **more)


def test_the_smaller_batch_is_faster() -> None:
    choice = choose([worker("a", batch=9), worker("b", batch=3)], 1_000, 100)
    assert (choice.worker_id, choice.why) == ("b", DecodeWhy.FASTEST)


def test_room_for_prompt_and_output_comes_first() -> None:
    full, busy = worker("a", kv=99_500), worker("b", batch=50)
    choice = choose([full, busy], 1_000, 100)
    assert (choice.worker_id, choice.why) == ("b", DecodeWhy.ONLY_ROOM)
    assert choose([full, worker("c", kv=99_900)], 1_000, 100).why is DecodeWhy.NO_ROOM


def test_a_prefix_makes_room_and_saves_transfer() -> None:
    held = worker("a", kv=99_500, cached_tokens=900)
    assert choose([held, worker("b", kv=99_950)], 1_000, 100).worker_id == "a"
    assert choose([worker("a"), worker("b", cached_tokens=900)], 1_000, 1).worker_id == "b"


def test_the_nearer_link_decides_short_answers() -> None:
    far, near = worker("a", link=Link.NETWORK), worker("b", batch=1, link=Link.HOST)
    assert choose([far, near], 50_000, 1).worker_id == "b"
    assert choose([far, near], 50_000, 5_000).worker_id == "a"


def test_nobody_is_an_answer() -> None:
    assert choose([], 10, 10) is None


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 120_000)), min_size=1, max_size=9))
def test_nobody_is_preempted_while_somebody_has_room(loads) -> None:
    pool = [worker(str(n), batch, kv) for n, (batch, kv) in enumerate(loads)]
    choice = choose(pool, 2_000, 500)
    room = {c.worker_id: c.room_tokens for c in choice.candidates}
    assert room[choice.worker_id] >= 0 or max(room.values()) < 0
