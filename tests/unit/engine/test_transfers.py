"""The engine's report of its transfers: read from whatever comes, told at a bounded rate."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import BatonError, Reason
from engine.link import TRANSFER_EVERY_S
from engine.ports import StepStats
from engine.transfers import ReportReader, transfer_message, worn_out
from kv_transfer.report import SECONDS_BOUNDS, Times, TransferReport, stats_key, to_plain
from tests.fakes.worker import House
from tests.unit.engine.hearing import everything, step

COUNTS = tuple(range(len(SECONDS_BOUNDS) + 1))
FULL = TransferReport(
    bytes_written=10,
    writes=9,
    descriptors=8,
    received=7,
    ended={"expired": 6},
    late_notices=5,
    transfer=Times(COUNTS, 4.5),
    exposed=Times(COUNTS, 3.5),
    tickets={"target.registered": 2},
    fenced_blocks=3,
    quarantined_blocks=1,
    accused=("agent a",),
    gb_per_s={"agent b": 12.5},
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["baton", *to_plain(FULL)]), inner, max_size=4)
    ),
    max_leaves=10,
)


def test_what_the_connector_wrote_is_read() -> None:
    assert ReportReader().read({"baton": to_plain(FULL)}) == FULL


def test_the_same_report_is_read_once() -> None:
    reader = ReportReader()
    first = reader.read({"baton": to_plain(FULL)})
    assert reader.read({"baton": to_plain(FULL)}) is first
    assert reader.read({"baton": to_plain(TransferReport(writes=1))}) == TransferReport(writes=1)


def test_an_engine_s_report_is_of_all_its_ranks() -> None:
    reader = ReportReader()
    other = TransferReport(
        bytes_written=1,
        writes=2,
        descriptors=3,
        received=4,
        ended={"expired": 1, "aborted": 5},
        late_notices=6,
        transfer=Times(COUNTS, 1.0),
        tickets={"target.registered": 7},
        fenced_blocks=1,
        quarantined_blocks=8,
        accused=("agent a", "agent c"),
        gb_per_s={"agent b": 3.0, "agent c": 1.0},
    )
    both = reader.read({"baton": to_plain(FULL), "baton.1": to_plain(other)})
    assert both == TransferReport(
        bytes_written=11,
        writes=11,
        descriptors=11,
        received=4,
        ended={"expired": 6, "aborted": 5},
        late_notices=11,
        transfer=Times(tuple(2 * count for count in COUNTS), 5.5),
        exposed=FULL.exposed,
        tickets={"target.registered": 7},
        fenced_blocks=3,
        quarantined_blocks=8,
        accused=("agent a", "agent c"),
        gb_per_s={"agent b": 3.0, "agent c": 1.0},
    )


def test_what_a_rank_said_stands_until_it_says_something_else() -> None:
    reader = ReportReader()
    reader.read({"baton": to_plain(TransferReport(writes=1))})
    reader.read({stats_key(1): to_plain(TransferReport(writes=2))})
    later = reader.read({stats_key(0): to_plain(TransferReport(writes=4))})
    assert later == TransferReport(writes=6)


@pytest.mark.parametrize("stats", [None, {}, {"num_successful_transfers": 3}])
def test_other_connectors_report_nothing(stats: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert ReportReader().read(stats) is None
    assert caplog.records == []


def test_nonsense_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = ReportReader()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert reader.read({"baton": {"writes": -number - 1}}) is None
    assert len(caplog.records) == 1
    assert reader.read({"baton": {"writes": 1}}) == TransferReport(writes=1)


@given(JUNK)
def test_whatever_is_read_can_be_told(junk: Any) -> None:
    for stats in (junk, {"baton": junk}):
        report = ReportReader().read(stats)
        if report is not None:
            transfer_message(report).SerializeToString()


def test_the_message_says_all_of_it() -> None:
    message = transfer_message(FULL)
    plain = to_plain(FULL)
    for name, value in plain.items():
        told = getattr(message, name)
        if name in ("transfer", "exposed"):
            assert tuple(told.counts) == value["counts"]
            assert (told.sum_s, tuple(told.bounds_s)) == (value["sum_s"], SECONDS_BOUNDS)
        else:
            assert (tuple(told) if name == "accused" else told) == value
    assert {field.name for field in message.DESCRIPTOR.fields} == set(plain)


def test_a_worker_is_worn_out_above_its_share() -> None:
    assert worn_out(None, 100, 0.1) == ""
    assert worn_out(TransferReport(quarantined_blocks=10), 100, 0.1) == ""
    assert worn_out(TransferReport(quarantined_blocks=11), 100, 0.1).startswith("11 of its 100")
    assert worn_out(TransferReport(quarantined_blocks=100), 100, 1.0) == ""


# --- towards the routers --------------------------------------------------------------------------


def told(house: House, link: Any) -> list[int]:
    """`writes` of the reports in the frames since the last look."""
    frames = [frame for frame in everything(link) if frame is not None]
    return [frame.transfer.writes for frame in frames if frame.HasField("transfer")]


def moved(house: House, writes: int) -> None:
    step(house, stats=StepStats(0.5, transfer=TransferReport(writes=writes)))


def test_routers_hear_of_changes_and_not_more_often_than_agreed() -> None:
    house = House()
    link = house.worker.open_link("r")
    assert told(house, link) == []
    moved(house, 1)
    assert told(house, link) == []
    house.worker.heartbeat()
    assert told(house, link) == [1]
    moved(house, 2)
    house.clock.advance(TRANSFER_EVERY_S / 2)
    house.worker.heartbeat()
    assert told(house, link) == []
    house.clock.advance(TRANSFER_EVERY_S / 2)
    house.worker.heartbeat()
    house.clock.advance(TRANSFER_EVERY_S)
    house.worker.heartbeat()
    assert told(house, link) == [2]


def test_a_new_router_hears_the_last_report_at_once() -> None:
    house = House()
    moved(house, 3)
    step(house, stats=StepStats(0.5))
    assert told(house, house.worker.open_link("r")) == [3]


# --- an engine without a step to make -------------------------------------------------------------


async def asked(house: House, times: int = 3) -> int:
    """How often the engine is asked in so many quiet half seconds."""
    before = house.engine.asked
    for _ in range(times):
        house.clock.advance(TRANSFER_EVERY_S)
        await house.worker.ask_after_transfers()
    return house.engine.asked - before


async def test_what_ended_with_the_last_step_is_fetched_once() -> None:
    house = House()
    moved(house, 1)
    await house.worker.ask_after_transfers()
    assert house.engine.asked == 0
    house.engine.report = TransferReport(writes=2)
    assert await asked(house) == 1
    assert house.worker.tally.transfer == TransferReport(writes=2)
    moved(house, 3)
    house.engine.report = None
    assert await asked(house) == 1
    assert house.worker.tally.transfer == TransferReport(writes=3)


async def test_an_engine_with_open_tickets_is_asked_until_they_are_closed() -> None:
    house = House()
    waiting = TransferReport(tickets={"target.fenced": 1}, fenced_blocks=4, quarantined_blocks=4)
    step(house, stats=StepStats(0.5, transfer=waiting))
    assert await asked(house) == 3
    house.engine.report = TransferReport()
    assert await asked(house) == 1
    assert house.worker.tally.transfer == TransferReport()


async def test_engines_that_never_reported_or_failed_are_not_asked() -> None:
    house = House()
    step(house, stats=StepStats(0.5))
    assert await asked(house) == 0
    moved(house, 1)
    house.worker.fail(BatonError(Reason.ENGINE_FAILED, "dead"))
    assert await asked(house) == 0
