"""Formats told from a first line."""

from pathlib import Path

import pytest

from simulator.traces.detect import format_of, read_any
from simulator.traces.request import Request, Trace, TraceError
from simulator.traces.shape import spread, step_s

LINES = {
    "bailian": '{"chat_id": 1, "hash_ids": [1]}',
    "mooncake": '{"timestamp": 0, "input_length": 5, "output_length": 2, "hash_ids": [1]}',
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
}


@pytest.mark.parametrize("form", LINES)
def test_each_format_is_known(form: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(LINES[form] + "\n")
    assert format_of(path) == form


def test_others_are_refused_unless_named(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("once upon a time\n")
    with pytest.raises(TraceError, match="of no known format"):
        read_any(path)
    path.write_text(LINES["mooncake"] + "\n")
    assert len(read_any(path, "mooncake").requests) == 1


def test_a_coarse_clock_is_seen_and_spread() -> None:
    rows = tuple(Request(n, 3.0 * (n // 5), 10, 2, (n,)) for n in range(50))
    coarse = Trace("coarse", rows)
    assert step_s(coarse) == 3.0
    fine = spread(coarse, 3.0, seed=1)
    assert step_s(fine) == 0.0
    assert [r.number for r in fine.requests] == list(range(50))
    times = [r.arrival_s for r in fine.requests]
    assert times == sorted(times)
    assert all(0 <= r.arrival_s - 3.0 * (r.blocks[0] // 5) <= 3.0 for r in fine.requests)
    with pytest.raises(ValueError, match="cannot be spread"):
        spread(coarse, -1.0, seed=1)
