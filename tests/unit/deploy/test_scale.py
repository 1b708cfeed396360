"""What an operator says about counts, and what is said to people."""

from __future__ import annotations

import pytest

from baton.errors import BatonError, Reason
from baton.messages import Role
from cluster.ports import ScalingRow
from deploy.scale import answer_text, as_lines, obey, parsed


class Scaler:
    """Takes what it is told."""

    def __init__(self) -> None:
        self.counts: object = None

    def set_by_hand(self, counts: object) -> ScalingRow:
        self.counts = counts
        return ScalingRow("manual", 1, 3)

    def set_auto(self) -> ScalingRow:
        return ScalingRow("auto", 1, 2)


def test_counts_are_read() -> None:
    assert parsed(["prefill=3", "decode=5"]) == {"prefill": 3, "decode": 5}
    assert parsed([]) == {}


@pytest.mark.parametrize("word", ["decode", "decode=", "decode=-1", "router=2", "decode=two", "=3"])
def test_what_is_no_count_is_refused_by_name(word: str) -> None:
    with pytest.raises(BatonError, match="is not understood") as caught:
        parsed([word])
    assert caught.value.reason is Reason.INVALID_REQUEST


def test_orders_reach_the_scaler() -> None:
    scaler = Scaler()
    answer = obey(scaler, {"do": "scale", "counts": {"decode": 3}})
    assert scaler.counts == {Role.DECODE: 3}
    assert answer_text(answer) == "wanted from now on: prefill 1, decode 3"
    assert "the scaling law decides" in answer_text(obey(scaler, {"auto": True, "counts": {}}))


def test_people_see_what_is_wanted_and_why() -> None:
    row = {
        "mode": "auto",
        "prefill": 1,
        "decode": 2,
        "why": ["prefill 1: enough", "decode 2: load 1.4"],
        "lately": [f"12:00:0{n} decode" for n in range(5)],
    }
    lines = list(as_lines(row))
    assert lines[0] == "scaling: auto, wanted prefill 1, decode 2"
    assert lines[2].strip() == "decode 2: load 1.4"
    assert len(lines) == 6
    assert list(as_lines(None)) == []
