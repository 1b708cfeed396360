"""The service of today serves the callers of the released one."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path

import pytest

SNAPSHOT = runpy.run_path(str(Path(__file__).resolve().parent.parent / "proto" / "snapshot.py"))
breaks, today = SNAPSHOT["breaks"], SNAPSHOT["today"]
TEXT = "baton.v1.Delta.text"


def test_nothing_that_was_released_is_gone_or_means_something_else() -> None:
    released = json.loads(SNAPSHOT["RELEASED"].read_text(encoding="utf-8"))
    assert len(released) > 90
    assert breaks(released, today()) == []


def test_adding_is_allowed() -> None:
    now = today()
    now["baton.v1.Delta.more"] = {**now[TEXT], "number": 99}
    assert breaks(today(), now) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (TEXT, {"number": 99}),
        (TEXT, {"type": "TYPE_BYTES"}),
        (TEXT, {"label": "LABEL_REPEATED"}),
        ("baton.v1.Prompt.text", {"oneof": ""}),
        ("baton.v1.FinishReason.FINISH_REASON_STOP", {"number": 9}),
        ("baton.v1.Baton.Generate", {"streams": [False, False]}),
        (TEXT, None),
        ("baton.v1.Priority.PRIORITY_LOW", None),
        ("baton.v1.Baton.Embed", None),
    ],
)
def test_every_other_change_is_seen(name: str, change: dict | None) -> None:
    now = copy.deepcopy(today())
    entry = now.pop(name)
    if change is not None:
        now[name] = {**entry, **change}
    lines = breaks(today(), now)
    assert len(lines) == 1
    assert lines[0].startswith(name)


def test_a_number_is_never_used_again() -> None:
    now = copy.deepcopy(today())
    now["baton.v1.Delta.other"] = now.pop(TEXT)
    assert f"baton.v1.Delta.other: has the number of {TEXT}" in breaks(today(), now)
