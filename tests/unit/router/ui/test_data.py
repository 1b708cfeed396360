"""The page's one object, from a whole router with workers that only speak when told to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from baton.settings.router import SloSettings
from baton.signals import PoolSignals, RouterSignals
from baton.wire import worker_pb2 as pb
from router.ui import figures
from router.ui.data import WORKERS_MAX, View, attainment, data
from router.ui.history import History, totals_of
from tests.unit.router.fakes import D, P, Scene

EMPTY = RouterSignals(PoolSignals(), PoolSignals())


def view(scene: Scene, **more) -> View:
    found = figures.read(scene.metrics.registry, figures.SHOWN)
    history = History()
    latest = totals_of(found, 100.0)
    facts = {
        "now_s": 100.0,
        "wall_s": 1e9,
        "model": "m",
        "slo": SloSettings(),
        "found": found,
        "points": (),
        "latest": history.point(latest),
        "signals": EMPTY,
        "status": scene.heart.status(),
    }
    return View(**{**facts, **more})


async def test_each_number_is_that_of_the_metrics(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit("a")
    scene.submit("b")
    scene.heart.abort(["a"])
    scene.frame("d", running=3, waiting=2, kv_used=0.5)
    page = data(view(scene))
    assert page["requests"]["inflight"] == scene.sample("baton_inflight_requests") == 1
    assert page["requests"]["ended"] == {"cancelled": 1}
    assert page["requests"]["failed"] == {"cancelled": 1}
    counted = scene.sample("baton_choices_total", reason="disaggregated")
    assert page["choices"]["division"] == {"disaggregated": counted}
    (row,) = [worker for worker in page["workers"] if worker["id"] == "d"]
    labels = {"worker": "d", "role": "decode"}
    assert row["running"] == scene.sample("baton_worker_running_requests", **labels) == 3
    assert row["kv_used"] == scene.sample("baton_worker_kv_used_ratio", **labels) == 0.5
    decode = page["pools"][1]
    assert (decode["role"], decode["running"], decode["waiting"]) == ("decode", 3, 2)
    assert (decode["ready"], decode["kv_used"], decode["wanted"]) == (1, 0.5, None)
    assert json.loads(json.dumps(page)) == page


async def test_what_a_worker_reports_of_its_transfers(scene: Scene) -> None:
    scene.up(P, D)
    report = pb.Transfer(
        bytes_written=7, received=1, ended={"aborted": 2, "late": 1}, fenced_blocks=4,
        tickets={"source.open": 3}, gb_per_s={"x": 1.5},
    )  # fmt: skip
    scene.frame("p", news={"transfer": report})
    rows = {worker["id"]: worker["transfer"] for worker in data(view(scene))["workers"]}
    assert rows["d"] is None
    assert rows["p"] == {
        "bytes_written": 7, "received": 1, "failed": 3, "open": 3, "fenced_blocks": 4,
        "quarantined_blocks": 0, "gb_per_s": 1.5,
    }  # fmt: skip


def test_the_cluster_knows_workers_that_this_router_does_not(scene: Scene) -> None:
    member = {
        "worker_id": "p",
        "role": "prefill",
        "state": "starting",
        "detail": "x",
        "restarts": 2,
    }
    status = {"members": [member], "scaling": {"prefill": 3, "decode": 1}}
    page = data(view(scene, status=status))
    (row,) = page["workers"]
    assert (row["state"], row["detail"], row["restarts"], row["up"]) == ("starting", "x", 2, False)
    assert (page["pools"][0]["wanted"], page["pools"][0]["ready"]) == (3, 0)


def test_it_is_bounded(scene: Scene) -> None:
    members = [
        {"worker_id": f"w{i:03}", "role": "decode", "state": "ready"}
        for i in range(WORKERS_MAX + 5)
    ]
    page = data(view(scene, status={"members": members}))
    assert (len(page["workers"]), page["workers_left_out"]) == (WORKERS_MAX, 5)
    assert page["pools"][1]["workers"] == WORKERS_MAX + 5


@pytest.mark.parametrize(
    ("ratios", "kept"), [((), None), ((0.5, 1.0, 1.01, 3.0), 0.5), ((0.2,), 1.0)]
)
def test_a_promise_is_kept_up_to_its_very_end(scene: Scene, ratios, kept) -> None:
    signals = replace(EMPTY, prefill=PoolSignals(attained=ratios))
    (row,) = attainment(view(scene, signals=signals))
    assert row == {"name": "all requests", "ttft": kept, "tpot": None}


def test_classes_that_the_metrics_tell_apart_have_a_row_each(scene: Scene) -> None:
    def sample(name: str, promise: str, window: str, kept: float):
        return {"model": "m", "class": name, "promise": promise, "window": window}, kept

    rows = [
        sample("gold", "ttft", "5m", 0.9),
        sample("gold", "tpot", "5m", 0.8),
        sample("gold", "ttft", "1h", 0.1),
        sample("other", "ttft", "5m", float("nan")),
        sample("free", "ttft", "5m", 0.5),
    ]
    found = figures.Figures({figures.ATTAINED: rows})
    assert attainment(view(scene, found=found)) == [
        {"name": "gold", "ttft": 0.9, "tpot": 0.8},
        {"name": "free", "ttft": 0.5, "tpot": None},
    ]


async def test_the_last_column_of_the_chart_is_now(scene: Scene) -> None:
    scene.up(D)
    scene.submit("r")
    scene.clock.advance(0.2)
    history, earlier = History(), totals_of(figures.Figures(), 95.0)
    history.note(earlier)
    scene.frame("d", prefilled=["r.0.s"])
    seen = view(scene, points=list(history))
    chart = data(replace(seen, latest=history.point(totals_of(seen.found, 100.0))))["chart"]
    assert chart["age_s"] == [5.0, 0.0]
    assert chart["ttft"]["p50"][0] is None
    assert chart["ttft"]["p50"][1] > 0
    columns = [chart["ttft"]["p99"], chart["tpot"]["p50"], chart["finished"], chart["refused"]]
    assert [len(column) for column in columns] == [2, 2, 2, 2]
