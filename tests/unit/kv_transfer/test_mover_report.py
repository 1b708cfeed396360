"""What a mover reports: totals, times, states, complaints; and whose death it looks out for."""

from __future__ import annotations

import pytest

from kv_transfer.moving import MoverLimits
from kv_transfer.orders import OpenTarget, Preempt
from kv_transfer.report import SECONDS_BOUNDS, Times, TransferReport, from_plain, to_plain
from kv_transfer.ticket.codec import encode
from kv_transfer.ticket.messages import Written
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import Two, layout_of


def report_of(two: Two, side: str) -> TransferReport:
    """The latest, once a tick has passed."""
    two.pass_time(0.1)
    report = getattr(two, side).mover.report()
    assert from_plain(to_plain(report)) == report
    return report


def one_at(seconds: float) -> tuple[int, ...]:
    """Buckets with one time in them."""
    place = sum(bound < seconds for bound in SECONDS_BOUNDS)
    return tuple(int(i == place) for i in range(len(SECONDS_BOUNDS) + 1))


def test_a_mover_that_has_done_nothing_reports_nothing() -> None:
    two = Two()
    assert two.prefill.mover.report() == TransferReport()
    assert report_of(two, "prefill") == report_of(two, "decode") == TransferReport()


@pytest.mark.parametrize("regions", [1, 2])
def test_what_was_written_is_counted_over_layers_and_regions(regions: int) -> None:
    two = Two(layout_of(3, size=64, regions=regions))
    legs.target(two)
    legs.open_source(two)
    two.run()
    legs.cover(two, 1)
    two.run()
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    legs.assert_landed(two)
    report = report_of(two, "prefill")
    assert report.writes == 2
    assert report.bytes_written == 4 * 3 * regions * 64
    assert report.descriptors == 2 * 3 * regions
    assert (report.received, report.ended, report.tickets) == (0, {}, {})
    theirs = report_of(two, "decode")
    assert theirs == TransferReport(received=1)


def test_layers_that_leave_alone_are_counted_alone() -> None:
    two = Two(layout_of(4, size=256 * 1024))
    legs.target(two)
    legs.open_source(two)
    two.run()
    step = legs.Step(two, 4)
    for layers in (1, 3, 4):
        step.compute(layers)
        two.run()
    report = report_of(two, "prefill")
    assert (report.writes, report.descriptors) == (3, 4)
    assert report.bytes_written == 4 * 4 * 256 * 1024


def test_runs_of_scattered_blocks_are_counted_one_by_one() -> None:
    two = Two(layout_of(2))
    legs.target(two)
    legs.open_source(two)
    two.run()
    legs.Step(two, 4, (3, 4, 9, 8)).compute(2)
    two.run()
    assert report_of(two, "prefill").descriptors == 3 * 2


def test_times_are_those_of_the_prompt() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    two.run()
    legs.cover(two, 2)
    two.run()
    two.clock.advance(0.6)
    two.prefill.agent.held = True
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    two.clock.advance(0.2)
    two.run()
    assert two.prefill.mover.counters.transfer.times == Times()
    two.prefill.agent.held = False
    two.run()
    legs.assert_landed(two)
    report = report_of(two, "prefill")
    assert report.transfer == Times(one_at(0.8), pytest.approx(0.8))
    assert report.exposed == Times(one_at(0.2), pytest.approx(0.2))
    assert report_of(two, "decode").transfer == Times()


def test_writes_under_way_take_as_long_as_those_before() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    two.run()
    two.prefill.agent.held = True
    legs.cover(two, 2)
    two.run()
    two.clock.advance(0.5)
    two.prefill.agent.held = False
    two.run()
    assert report_of(two, "prefill").backlog_s == 0.0
    two.prefill.agent.held = True
    legs.cover(two, 4)
    assert report_of(two, "prefill").backlog_s == pytest.approx(0.5)
    two.pass_time(5.0)
    assert report_of(two, "prefill").backlog_s == pytest.approx(5.6)
    two.pass_time(5.0)
    assert report_of(two, "prefill").backlog_s == 0.0
    two.prefill.agent.held = False
    two.run()
    assert report_of(two, "prefill").backlog_s == report_of(two, "decode").backlog_s == 0.0


def test_a_prompt_that_ended_badly_has_no_time() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    legs.cover(two, 2)
    two.run()
    two.prefill.mover.feed([legs.ABORT])
    two.run()
    report = report_of(two, "prefill")
    assert (report.writes, report.transfer, report.exposed) == (1, Times(), Times())
    assert report.ended == {"source: aborted": 1}
    assert report_of(two, "decode").ended == {"target: aborted": 1}


def test_open_tickets_are_told_by_end_and_state() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    assert report_of(two, "prefill").tickets == {"source.opened": 1}
    assert report_of(two, "decode").tickets == {"target.opened": 1}
    legs.allocate(two)
    two.run()
    assert report_of(two, "prefill").tickets == {"source.streaming": 1}
    assert report_of(two, "decode").tickets == {"target.registered": 1}
    legs.cover(two, 2)
    two.run()
    assert report_of(two, "decode").tickets == {"target.streaming": 1}
    two.prefill.agent.held = True
    legs.cover(two, 4)
    assert report_of(two, "prefill").tickets == {"source.draining": 1}
    two.prefill.agent.held = False
    assert report_of(two, "prefill").tickets == {"source.quiet": 1}
    legs.finish(two)
    assert report_of(two, "prefill").tickets == {}
    assert report_of(two, "decode").tickets == {}


def test_an_engine_may_have_both_ends() -> None:
    two = Two()
    legs.open_source(two)
    two.prefill.mover.feed([OpenTarget(legs.KEY, "d2", two.decode.endpoint)])
    assert report_of(two, "prefill").tickets == {"source.opened": 1, "target.opened": 1}


def test_fenced_blocks_are_those_that_wait_for_a_proof() -> None:
    two = Two()
    two.prefill.agent.held = True
    legs.target(two)
    legs.prompt(two)
    two.run()
    assert report_of(two, "decode").fenced_blocks == 0
    two.decode.mover.feed([legs.ABORT])
    report = report_of(two, "decode")
    assert (report.fenced_blocks, report.quarantined_blocks, report.accused) == (4, 0, ())
    assert report.tickets == {"target.fencing": 1}
    two.prefill.agent.held = False
    two.run()
    assert report_of(two, "decode").fenced_blocks == 0


def test_late_notices_of_closed_and_of_open_tickets_are_counted() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    two.network.repeated = (Written,)
    two.run()
    (notice,) = two.network.said(Written)
    two.decode.mover._hear("p", encode(notice))
    assert report_of(two, "decode").late_notices == 2


def test_why_tickets_ended_is_told_in_fixed_words() -> None:
    two = Two(limits=MoverLimits(write_deadline_s=1, hold_s=2))
    legs.prompt(two)
    two.pass_time(2.5)
    assert report_of(two, "prefill").ended == {"source: no_target": 1}
    legs.target(two)
    two.run()
    assert report_of(two, "decode").ended == {"target: no_target": 1}


def test_a_report_is_written_tick_by_tick() -> None:
    two = Two()
    legs.open_source(two)
    two.run()
    assert two.prefill.mover.report() == TransferReport()
    two.clock.advance(0.04)
    two.run()
    assert two.prefill.mover.report() == TransferReport()
    two.clock.advance(0.02)
    two.run()
    assert two.prefill.mover.report().tickets == {"source.opened": 1}


def test_a_resumed_prompt_has_one_time() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    legs.cover(two, 2)
    two.run()
    two.prefill.mover.feed([Preempt(legs.KEY)])
    two.clock.advance(3)
    legs.Step(two, 4, legs.SOURCES, source_epoch=1).compute(1)
    two.run()
    assert two.prefill.mover.counters.transfer.times == Times(one_at(3.0), pytest.approx(3.0))
    assert two.prefill.mover.counters.exposed.times == Times(one_at(0.0), 0.0)


# --- whose death it looks out for -----------------------------------------------------------------


def test_dead_peers_without_open_tickets_are_forgotten_in_time() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    two.run()
    legs.assert_landed(two)
    two.decode.agent.known_dead = {"p"}
    two.pass_time(3)
    assert two.decode.agent.forgotten == ["p"]
    assert two.decode.agent.peers == set()


def test_mostly_peers_of_open_tickets_are_looked_after() -> None:
    two = Two()
    agent = two.prefill.agent
    agent.peers.add("idle")
    legs.open_source(two)
    two.pass_time(4)
    assert {"d"} in agent.watched
    everybody = [watched for watched in agent.watched if watched == {"d", "idle"}]
    assert 1 <= len(everybody) <= len(agent.watched) / 10
    two.decode.agent.known_dead = {"p"}
    two.decode.agent.watched.clear()
    legs.open_target(two)
    two.pass_time(0.1)
    assert two.decode.agent.forgotten == ["p"]
