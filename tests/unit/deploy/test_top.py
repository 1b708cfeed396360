"""`baton top`, from pages made by hand."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import Any

import pytest
from rich.console import Console

from baton.errors import BatonError, Reason
from deploy import cli, top
from deploy.reach import Reach

WORKER = {
    "id": "decode-0", "role": "decode", "state": "ready", "detail": "", "up": True,
    "draining": False, "running": 3, "waiting": 1, "queue_s": 0.25, "kv_used": 0.5,
    "cached_blocks": 1234, "restarts": 2,
}  # fmt: skip
LATE = {"p50": 0.1, "p90": 0.2, "p99": 0.3, "count": 9}
PAST = {"p90": [None, 0.1, 0.2]}
PAGE: dict[str, Any] = {
    "model": "demo",
    "router": {"id": "router-0-7"},
    "requests": {
        "inflight": 4.0, "queued": 2.0, "finished_per_s": 1.5, "failed_per_s": 0.0,
        "refused_per_s": 0.0,
    },
    "attention": [],
    "slo": {"ttft_s": 2.0, "tpot_s": 0.1, "percentile": 0.9},
    "attainment": [{"name": "all", "ttft": 0.95, "tpot": None}],
    "latency": {"ttft": LATE, "tpot": LATE},
    "chart": {"ttft": PAST, "tpot": PAST},
    "pools": [{"role": "decode", "wanted": 2, "workers": 1, "ready": 1}],
    "workers": [WORKER],
    "choices": {"division": {"short_prompt": 7.0}, "prefill": {}, "decode": {}},
    "scaling": {
        "mode": "auto", "prefill": 1, "decode": 2, "why": ["decode: one more"], "lately": [],
    },
    "recent": [
        {
            "id": "cmpl-[red]7", "outcome": "worker_lost", "ttft_s": None, "duration_s": 1.5,
            "prefill": "prefill-0", "decode": "decode-0",
        }
    ],
}  # fmt: skip


def console() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False)


def shown(page: dict[str, Any], lost: str = "") -> str:
    screen = console()
    screen.print(top.frame(page, lost))
    return screen.file.getvalue()


def test_a_frame_shows_what_the_page_does() -> None:
    text = shown(PAGE)
    for words in (
        "demo · router-0-7 · 4 in flight, 2 queued · 1.50/s finished",
        "nothing needs attention",
        "95.0 %",
        "1 of 1 ready, 2 wanted",
        "█████░░░░░ 50 %",
        "1,234",
        "short prompt 7",
        "decode: one more",
        "prefill-0 → decode-0",
        "cmpl-[red]7",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"up": False}, "out of reach"),
        ({"draining": True}, "draining"),
        ({"state": "starting", "detail": "loading weights"}, "starting loading weights"),
        ({"cached_blocks": None, "queue_s": None}, "-"),
    ],
)
def test_the_state_of_a_worker(change: dict[str, Any], words: str) -> None:
    row = next(
        line
        for line in shown({**PAGE, "workers": [{**WORKER, **change}]}).splitlines()
        if line.lstrip().startswith("decode-0")
    )
    assert words in row


def test_findings_and_a_cluster_without_scaling() -> None:
    bad = {"level": "bad", "about": "x", "text": "no decode worker is ready"}
    text = shown({**PAGE, "attention": [bad], "scaling": None})
    assert "■ no decode worker is ready" in text
    assert "nothing needs attention" not in text


def test_bars_are_of_the_promise_until_it_is_broken() -> None:
    assert top.spark([None, 0.0, 1.0, 2.0], 2.0).plain == " ▁▄█"
    broken = top.spark([2.0, 4.0], 2.0)
    assert broken.plain == "▄█"
    assert [span.style for span in broken.spans] == ["blue", "red"]


def test_it_goes_on_while_nobody_answers_and_says_so() -> None:
    answers = [deepcopy(PAGE), BatonError(Reason.NO_WORKER, "nothing answers there"), PAGE]
    left = [False, False, True]
    seen = []

    def ask() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, BatonError):
            raise answer
        return answer

    screen = Console(file=io.StringIO(), width=120, height=60, force_terminal=True)

    def leave(seconds: float) -> bool:
        seen.append(screen.file.getvalue())
        screen.file.truncate(0)
        assert seconds == 0.5
        return left.pop(0)

    top.watch(ask, screen, 0.5, leave)
    assert ["disconnected" in text for text in seen] == [False, True, False]
    assert "nothing answers there" in seen[1]


def test_without_a_first_frame_it_fails() -> None:
    def ask() -> dict[str, Any]:
        raise BatonError(Reason.NO_WORKER, "nothing answers")

    with pytest.raises(BatonError, match="nothing answers"):
        top.watch(ask, console(), 1.0, lambda _: True)


@pytest.mark.parametrize(
    ("status", "page", "words"),
    [
        (404, {}, "router.ui is false"),
        (500, {}, "answers 500"),
        (200, None, "answers 200"),
    ],
)
def test_a_router_that_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, status: int, page: Any, words: str
) -> None:
    monkeypatch.setattr(top, "get_json", lambda *_: (status, page))
    with pytest.raises(BatonError, match=words):
        top.fetch(Reach("http://x"))


def test_an_interval_is_a_number_of_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("0", "soon", "nan"):
        assert cli.main(["top", "--interval", text]) == 2
        assert "is no number from 0.2 to 3600" in capsys.readouterr().err
