"""What the handoff benchmark reports, and how requests name their way."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baton.errors import BatonError
from baton.messages import Ticket
from baton.settings import KvTransferSettings
from benchmarks import handoff_figures, handoff_parts, handoff_runs, link, wide_model
from benchmarks.handing import Seen
from benchmarks.handoff_budget import Budget, turns
from benchmarks.handoff_engines import Wanted
from benchmarks.ways import BY, PullWithProgressThread, PushWithProgressThread, ThreeHandoffs
from engine.model_folder import read_model_folder

HANDOFFS = ThreeHandoffs(KvTransferSettings(connector="baton", ucx_tls="tcp"))
WORD = {"remote_block_ids": [[1]], "remote_port": 7}
SEEN = {
    way: {1024: [Seen(1.0, exposed, 1.5) for exposed in times]}
    for way, times in {"baton": (0.01, 0.03, 0.02), "pull": (0.2,), "push": (0.1,)}.items()
}
ON_LINK = {"by_factor": {"1": {"chunk": {"share": 0.2}, "layer": {"share": 0.1}}}}


def test_the_keys_that_are_promised() -> None:
    found = handoff_figures.keys(SEEN, ON_LINK)
    assert found["exposed_ms_p50"] == {"baton": 20.0, "vllm_pull": 200.0, "vllm_push": 100.0}
    assert found["shaped_exposed_share_chunked"] == 0.2
    assert found["shaped_exposed_share_layered"] == 0.1


@pytest.mark.parametrize("on_link", [None, {}, {"by_factor": {"0.1": {}}}])
def test_without_a_link_its_figures_are_null(on_link: dict[str, Any] | None) -> None:
    found = json.loads(json.dumps(handoff_figures.keys(SEEN, on_link)))
    assert found["shaped_exposed_share_chunked"] is None
    assert found["shaped_exposed_share_layered"] is None


def test_what_was_not_measured_is_null() -> None:
    found = handoff_figures.keys({"baton": {128: SEEN["baton"][1024]}}, None)
    assert found["exposed_ms_p50"] == {"baton": None, "vllm_pull": None, "vllm_push": None}
    assert handoff_figures.under_load([], 1.0)["first_token_ms"] is None


def test_figures_by_length() -> None:
    found = handoff_figures.by_length(SEEN, wide_model.KV_BYTES_PER_TOKEN)["1024"]
    assert found["kv_mib"] == 64
    assert found["vllm_pull"] == {
        "requests": 1,
        "prefill_ms": 1000,
        "exposed_ms": 200,
        "first_token_ms": 1200,
    }


def test_figures_of_lengths_that_only_some_had_time_for() -> None:
    found = handoff_figures.by_length({**SEEN, "baton": {128: SEEN["baton"][1024]}}, 4096)
    assert list(found) == ["128", "1024"]
    assert "vllm_pull" not in found["128"]
    assert found["128"]["kv_mib"] == 0.5


def test_batons_share_of_the_others() -> None:
    others = {"vllm_pull": SEEN["pull"], "vllm_push": {2048: SEEN["push"][1024]}}
    exposed = handoff_figures.baton_share_of(SEEN, others, handoff_figures.exposed_s)
    assert exposed == {"1024": {"vllm_pull": 0.1}}
    first = handoff_figures.baton_share_of(SEEN, others, handoff_figures.first_token_s)
    assert first == {"1024": {"vllm_pull": 0.85}}


class Watch:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def taken(rounds: dict[int, int], seconds: float) -> list[tuple[int, int]]:
    """Turns where each takes a hundredth of a second per token."""
    watch, found = Watch(), []
    for turn, length in turns(rounds, Budget(seconds, watch)):
        found.append((turn, length))
        watch.now_s += length / 100
    return found


def test_every_length_has_its_turn_before_any_has_two() -> None:
    assert taken({100: 2, 400: 1}, 100) == [(0, 100), (0, 400), (1, 100)]


def test_turns_that_do_not_fit_are_left_out() -> None:
    assert taken({100: 3, 1000: 2}, 14) == [(0, 100), (1, 100), (2, 100)]
    assert taken({100: 3, 400: 3}, 10) == [(0, 100), (0, 400), (1, 100), (1, 400)]
    assert taken({100: 3}, -1) == []


def test_a_part_of_a_budget_is_not_more_than_what_is_left() -> None:
    watch = Watch()
    whole = Budget(10, watch)
    watch.now_s = 4
    assert whole.part(100).left_s == 6
    assert whole.share(3).left_s == 2
    assert list(whole.while_any_is_left([1, 2])) == [1, 2]
    watch.now_s = 11
    assert not list(whole.while_any_is_left([1, 2]))


def test_a_part_for_which_no_time_is_left_says_so() -> None:
    async def never(*_: object) -> None:
        raise AssertionError

    part = handoff_parts.Part("late", Wanted(4096, 1.0, None), 100, never)
    found = handoff_parts.run(part, Budget(5))
    assert found.how_it_went() == {
        "seconds": 0,
        "cut_short": "TimeoutError: the other parts took the time",
    }


class Nobody:
    """Engines that answer nothing, and one's end of the links to them."""

    doing = "push of 512 tokens"
    prefill = SimpleNamespace(info=SimpleNamespace(dtype="float32"))

    def __init__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Nobody:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def test_a_part_that_fails_says_at_what_and_keeps_what_it_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def measure(_: object, __: Budget, found: handoff_parts.Found) -> None:
        found.seen = SEEN
        raise TimeoutError

    monkeypatch.setattr(handoff_parts, "HandingPair", Nobody)
    monkeypatch.setattr(handoff_parts, "engines", lambda _: nullcontext(Nobody()))
    part = handoff_parts.Part("silent", Wanted(4096, 1.0, None), 100, measure)
    found = handoff_parts.run(part, Budget(100))
    assert found.cut_short == "TimeoutError, at push of 512 tokens"
    assert found.seen == SEEN
    assert found.kv_bytes_per_token == wide_model.KV_BYTES_PER_TOKEN


def test_what_the_full_run_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(part: handoff_parts.Part, _: Budget) -> handoff_parts.Found:
        late = "TimeoutError" if part.name.startswith("push") else None
        seen = {} if late else SEEN
        return handoff_parts.Found(4096, seen, {}, dict(ON_LINK), 1.0, late)

    monkeypatch.setattr(handoff_runs, "run", measured)
    monkeypatch.setattr(link, "inside", lambda: True)
    found = json.loads(json.dumps(handoff_runs.full()))
    assert found["exposed_ms_p50"]["baton"] == 20.0
    assert found["shaped_exposed_share_layered"] == 0.1
    assert found["baton_exposed_of"]["1024"] == {
        "vllm_pull": 0.1,
        "vllm_push": 0.2,
        "vllm_pull_with_progress_thread": 0.1,
    }
    assert list(found["with_progress_threads"]["1024"]) == ["kv_mib", "vllm_pull"]
    assert found["parts"]["push_with_progress_thread"]["cut_short"] == "TimeoutError"
    assert found["demo_model"]["kv_bytes_per_token"] == 4096


@pytest.mark.parametrize("way", ["pull", "push"])
def test_vllms_legs_say_whose_they_are(way: str) -> None:
    ticket = Ticket(f"{way}-1", 0, 30.0, HANDOFFS.handed(WORD))
    assert HANDOFFS.prefill_params(ticket)[BY] == way
    assert HANDOFFS.decode_params(ticket)[BY] == way
    assert HANDOFFS.decode_params(ticket)["remote_port"] == 7


@pytest.mark.parametrize(
    ("way", "stream"), [("baton", None), ("chunk", "chunk"), ("layer", "layer")]
)
def test_batons_prefill_leg_says_how_to_stream(way: str, stream: str | None) -> None:
    params = HANDOFFS.prefill_params(Ticket(f"{way}-1", 0, 30.0, peer=b"somebody"))
    assert params.get("stream") == stream
    assert "do_remote_decode" not in params


def test_batons_legs_need_a_peer() -> None:
    with pytest.raises(BatonError):
        HANDOFFS.decode_params(Ticket("baton-1", 0, 30.0))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ThreeHandoffs, ["Pull", "Push", "BatonConnector"]),
        (PullWithProgressThread, ["LoudPull", "Push", "BatonConnector"]),
        (PushWithProgressThread, ["Pull", "LoudPush", "BatonConnector"]),
    ],
)
def test_all_connectors_are_in_one_engine(kind: type[ThreeHandoffs], names: list[str]) -> None:
    config = kind(KvTransferSettings(connector="baton")).transfer_config("cpu")
    inner = config["kv_connector_extra_config"]["connectors"]
    assert [each["kv_connector"] for each in inner] == names


def test_the_wide_model_passes_for_a_model(tmp_path: Path) -> None:
    found = read_model_folder(wide_model.make(tmp_path, 4096))
    assert found.max_len_tokens == 4096
    assert found.kv_values_per_token == wide_model.KV_BYTES_PER_TOKEN // wide_model.BYTES


def test_the_8b_shape_has_the_kv_that_rates_are_computed_from(tmp_path: Path) -> None:
    found = read_model_folder(wide_model.make_8b(tmp_path, 40_000))
    assert found.kv_values_per_token == wide_model.KV_BYTES_PER_TOKEN_8B // 2


def test_only_kv_passes_the_slow_class() -> None:
    assert link._class(link._KV, 50e6).startswith(
        "tc class replace dev lo parent 1: classid 1:20 htb rate 400000000bit"
    )
    assert all(f"flowid {link._FAST}" in c for c in link._SET_UP if "filter" in c)
