"""What an operator is told first."""

from __future__ import annotations

from typing import Any

import pytest

from router.ui.attention import MOST, attention

WELL = {"id": "d", "state": "ready", "up": True, "detail": "", "transfer": None}
QUIET: dict[str, Any] = {
    "router": {"id": "r", "draining": False},
    "requests": {"refused_per_s": 0.0},
    "slo": {"percentile": 0.9},
    "attainment": [{"name": "all requests", "ttft": 0.9, "tpot": None}],
    "pools": [{"role": "decode", "workers": 1, "ready": 1}],
    "workers": [WELL],
}


def test_nothing_is_said_of_a_cluster_that_is_well() -> None:
    assert attention(QUIET) == []


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"router": {"id": "r", "draining": True}}, "watch", "r drains"),
        ({"requests": {"refused_per_s": 2.0}}, "watch", "2.0 requests/s are refused"),
        ({"attainment": [{"name": "gold", "ttft": 0.8, "tpot": 1}]}, "bad", "80.0% of gold"),
        ({"attainment": [{"name": "gold", "ttft": 1, "tpot": 0.5}]}, "bad", "TPOT is kept"),
        ({"pools": [{"role": "prefill", "workers": 2, "ready": 0}]}, "bad", "no prefill worker"),
        ({"workers": [{**WELL, "up": False}]}, "bad", "out of this router's reach"),
        ({"workers": [{**WELL, "state": "gone", "detail": "oom"}]}, "watch", "d is gone: oom"),
        ({"workers": [{**WELL, "transfer": {"quarantined_blocks": 3}}]}, "bad", "3 KV blocks"),
    ],
)
def test_what_is_not_well_is_said(change: dict[str, Any], level: str, words: str) -> None:
    (one,) = attention({**QUIET, **change})
    assert one["level"] == level
    assert words in one["text"]


def test_the_worst_comes_first_and_the_list_is_bounded() -> None:
    starting = [{**WELL, "id": f"w{i}", "state": "starting"} for i in range(30)]
    found = attention({**QUIET, "workers": [*starting, {**WELL, "id": "lost", "up": False}]})
    assert (found[0]["about"], len(found)) == ("lost", MOST + 1)
    assert found[-1]["text"] == "19 more"
    assert len({one["about"] for one in found}) == len(found)
