"""Each request's news go to the front end that it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from router.fronts import Fronts

OURS, THEIRS = RequestId("cmpl-1"), RequestId("f0.0/cmpl-1")
ERROR = BatonError(Reason.INTERNAL, "x")


class Front:
    """Ends everything that it is told of."""

    def __init__(self, *requests: RequestId) -> None:
        self.open = set(requests)
        self.heard: list[object] = []

    def deliver(
        self, buffers: Sequence[bytes], requests: dict[str, RequestId]
    ) -> Sequence[RequestId]:
        self.heard.append(dict(requests))
        ended = [one for one in requests.values() if one in self.open]
        self.open -= set(ended)
        return ended

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        self.heard.append((request_id, error))

    def sent(self, request_id: RequestId) -> Sequence[int]:
        return (len(self.heard),)

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        return lambda: 7 if request_id in self.open else 0


def test_a_step_is_split_only_where_both_have_a_part() -> None:
    legs = {"l1": OURS, "l2": THEIRS}
    inner, linked = Front(OURS), Front(THEIRS)
    assert Fronts(inner, linked).deliver([b""], legs) == [THEIRS, OURS]
    assert (inner.heard, linked.heard) == ([{"l1": OURS}], [legs])


def test_a_step_of_one_kind_is_read_once() -> None:
    inner, linked = Front(), Front(THEIRS)
    fronts = Fronts(inner, linked)
    assert fronts.deliver([b""], {"l2": THEIRS}) == [THEIRS]
    assert inner.heard == []
    inner.open.add(OURS)
    assert fronts.deliver([b""], {"l1": OURS}) == [OURS]
    assert linked.heard == [{"l2": THEIRS}]


def test_news_of_one_request_go_to_its_own() -> None:
    inner, linked = Front(OURS), Front(THEIRS)
    fronts = Fronts(inner, linked)
    fronts.fail(OURS, ERROR)
    fronts.fail(THEIRS, ERROR)
    assert (inner.heard, linked.heard) == ([(OURS, ERROR)], [(THEIRS, ERROR)])
    assert fronts.counter(THEIRS)() == fronts.counter(OURS)() == 7
    assert fronts.sent(THEIRS) == fronts.sent(OURS) == (1,)
