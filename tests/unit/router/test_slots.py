"""Numbers stay while workers do."""

from hypothesis import given
from hypothesis import strategies as st

from baton.ids import WorkerId
from router.slots import Slots

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def test_a_number_is_used_again_once_its_worker_has_left() -> None:
    slots = Slots()
    assert [slots.take(w) for w in (A, B, A)] == [0, 1, 0]
    assert slots.free(A) == 0
    assert slots.free(A) is None
    assert slots.get(A) is None
    assert slots.worker(0) is None
    assert slots.worker(9) is None
    assert slots.take(C) == 0
    assert (slots.worker(0), slots.worker(1), len(slots)) == (C, B, 2)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefg"))))
def test_no_two_workers_share_a_number(changes) -> None:
    slots, known = Slots(), dict[str, int]()
    for joins, name in changes:
        if joins:
            slot = slots.take(WorkerId(name))
            assert known.setdefault(name, slot) == slot
        else:
            assert slots.free(WorkerId(name)) == known.pop(name, None)
        assert len(set(known.values())) == len(known)
        assert all(slots.worker(slot) == name for name, slot in known.items())
    assert len(slots) <= 7
