"""Workers' reports of their transfers in the router's metrics and on its status page."""

import asyncio
import logging

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from baton.ids import WorkerId
from baton.messages import Role
from baton.wire import worker_pb2 as pb
from tests.unit.router.fakes import D, P, Scene, info

AT = {"worker": "d", "role": "decode"}
FAMILIES = {
    "baton_kv_transfer_bytes",
    "baton_kv_transfer_writes",
    "baton_kv_transfer_descriptors",
    "baton_kv_transfer_received",
    "baton_kv_transfer_ended",
    "baton_kv_transfer_late_notices",
    "baton_kv_transfer_seconds",
    "baton_kv_transfer_exposed_seconds",
    "baton_kv_tickets",
    "baton_kv_transfer_backlog_seconds",
    "baton_kv_fenced_blocks",
    "baton_kv_quarantined_blocks",
    "baton_kv_transfer_rate_gb_per_second",
}


def report(scene: Scene, worker: str, **facts) -> None:
    frame = pb.StepFrame(load=pb.Load(), transfer=pb.Transfer(**facts))
    scene.heart.on_frame(WorkerId(worker), frame)


def rows(scene: Scene, name: str) -> list[dict[str, str]]:
    text = generate_latest(scene.metrics.registry).decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    return [sample.labels for sample in families[name].samples]


async def test_every_family_is_there_before_any_report(scene: Scene) -> None:
    text = generate_latest(scene.metrics.registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names >= FAMILIES


async def test_totals_and_gauges_are_the_workers(scene: Scene) -> None:
    scene.up(P, D)
    report(
        scene,
        "d",
        bytes_written=1000,
        writes=3,
        descriptors=2,
        received=5,
        late_notices=1,
        ended={"expired": 4},
        tickets={"target.registered": 2, "source.streaming": 1, "odd": 9},
        fenced_blocks=7,
        quarantined_blocks=6,
    )
    for name, value in [
        ("baton_kv_transfer_bytes_total", 1000),
        ("baton_kv_transfer_writes_total", 3),
        ("baton_kv_transfer_descriptors_total", 2),
        ("baton_kv_transfer_received_total", 5),
        ("baton_kv_transfer_late_notices_total", 1),
        ("baton_kv_fenced_blocks", 7),
        ("baton_kv_quarantined_blocks", 6),
    ]:
        assert scene.sample(name, **AT) == value
    assert scene.sample("baton_kv_transfer_ended_total", reason="expired", **AT) == 4
    assert scene.sample("baton_kv_tickets", end="target", state="registered", **AT) == 2
    assert len(rows(scene, "baton_kv_tickets")) == 2
    assert scene.sample("baton_kv_transfer_bytes_total", worker="p", role="prefill") is None


async def test_times_become_cumulative_buckets(scene: Scene) -> None:
    scene.up(D)
    report(scene, "d", exposed=pb.Times(bounds_s=(0.1, 0.5), counts=(3, 0, 2), sum_s=9.5))
    name = "baton_kv_transfer_exposed_seconds"
    assert scene.sample(f"{name}_bucket", le="0.1", **AT) == 3
    assert scene.sample(f"{name}_bucket", le="0.5", **AT) == 3
    assert scene.sample(f"{name}_bucket", le="+Inf", **AT) == 5
    assert scene.sample(f"{name}_count", **AT) == 5
    assert scene.sample(f"{name}_sum", **AT) == 9.5
    report(scene, "d", exposed=pb.Times(bounds_s=(0.1, 0.5), counts=(3,)))
    assert rows(scene, name) == []


async def test_rates_name_workers_and_only_those_of_today(scene: Scene) -> None:
    scene.up(info("p", Role.PREFILL, transfer_agent="agent of p"), D)
    report(scene, "d", gb_per_s={"agent of p": 2.5, "agent of its last start": 1.0, "": 3.0})
    name = "baton_kv_transfer_rate_gb_per_second"
    assert scene.sample(name, peer="p", **AT) == 2.5
    assert len(rows(scene, name)) == 1


async def test_label_values_are_few_words(scene: Scene) -> None:
    scene.up(D)
    report(scene, "d", ended={**{f"reason_{n:02}": 1 for n in range(40)}, "ID 4711!": 5})
    assert len(rows(scene, "baton_kv_transfer_ended")) == 32
    assert scene.sample("baton_kv_transfer_ended_total", reason="other", **AT) == 14


async def test_a_restart_begins_at_nothing_and_a_lost_link_does_not(scene: Scene) -> None:
    scene.up(D)
    report(scene, "d", writes=3)
    scene.lose("d")
    assert scene.sample("baton_kv_transfer_writes_total", **AT) == 3
    scene.up(info("d", Role.DECODE, incarnation=2))
    assert scene.sample("baton_kv_transfer_writes_total", **AT) is None
    report(scene, "d", writes=1)
    assert scene.sample("baton_kv_transfer_writes_total", **AT) == 1
    scene.view()
    assert scene.sample("baton_kv_transfer_writes_total", **AT) is None


async def test_the_status_page_shows_blocks_out_of_use(scene: Scene) -> None:
    scene.up(D)
    assert scene.heart.status()["workers"][0]["transfer"] is None
    report(scene, "d", quarantined_blocks=6, accused=["agent of p"], tickets={"target.fenced": 1})
    shown = scene.heart.status()["workers"][0]["transfer"]
    assert shown["quarantined_blocks"] == 6
    assert shown["accused"] == ["agent of p"]
    assert shown["tickets"] == {"target.fenced": 1}


async def test_a_fault_in_a_tick_does_not_end_the_watch(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("router.ticker._AFTER_FAULT_S", 0.0)
    scene.up(D)
    scene.submit(deadline_s=1.0)
    ticks, real = [], scene.heart.tick

    def faulty(now: float) -> None:
        ticks.append(now)
        if len(ticks) == 1:
            raise KeyError("bug")
        real(now)

    monkeypatch.setattr(scene.heart._ticker, "_tick", faulty)
    scene.clock.advance(1)
    with caplog.at_level(logging.ERROR):
        scene.heart.start()
        for _ in range(5):
            await asyncio.sleep(0)
    assert "bug" in caplog.text
    assert scene.front.reasons == {"r": "deadline_exceeded"}
