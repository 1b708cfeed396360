"""What the engine's connector says of its transfers: read out of a step, packed for the routers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from baton.wire import worker_pb2 as wire
from kv_transfer.report import (
    SECONDS_BOUNDS,
    Times,
    TransferReport,
    from_plain,
    is_report,
    of_engine,
)

_log = logging.getLogger("baton.engine")


class ReportReader:
    """Reads the reports of an engine's devices out of each step's connector statistics.

    An engine steps far more often than they change: the same report is read once, and that of a
    device that says nothing still stands.
    """

    def __init__(self) -> None:
        self._plain: dict[str, Any] = {}
        self._ranks: dict[str, TransferReport] = {}
        self._report: TransferReport | None = None
        self._complained = False

    def read(self, stats: Mapping[str, Any] | None) -> TransferReport | None:
        """The report; None where there is none, or none that can be read."""
        found = stats.items() if isinstance(stats, Mapping) else ()
        said = {key: plain for key, plain in found if is_report(key) and plain is not None}
        if not said:
            return None
        for key, plain in said.items():
            if plain != self._plain.get(key):
                self._read(key, plain)
        return self._report

    def _read(self, key: str, plain: Any) -> None:
        self._plain[key] = plain
        self._ranks.pop(key, None)
        if (report := self._parsed(plain)) is not None:
            self._ranks[key] = report
        self._report = of_engine(list(self._ranks.values())) if self._ranks else None

    def _parsed(self, plain: Any) -> TransferReport | None:
        try:
            return from_plain(plain)
        except ValueError as error:
            if not self._complained:
                _log.warning("the engine's report of its transfers cannot be read: %s", error)
            self._complained = True
            return None


def worn_out(report: TransferReport | None, kv_blocks: int, share_max: float) -> str:
    """Why an engine of so many blocks had better be replaced; empty while it need not be.

    Its end is the one proof for blocks that nobody else can vouch for.
    """
    quarantined = 0 if report is None else report.quarantined_blocks
    if quarantined <= share_max * kv_blocks:
        return ""
    return f"{quarantined} of its {kv_blocks} KV blocks are quarantined"


def transfer_message(report: TransferReport) -> wire.Transfer:
    return wire.Transfer(
        bytes_written=report.bytes_written,
        writes=report.writes,
        descriptors=report.descriptors,
        received=report.received,
        ended=report.ended,
        late_notices=report.late_notices,
        transfer=_times(report.transfer),
        exposed=_times(report.exposed),
        tickets=report.tickets,
        fenced_blocks=report.fenced_blocks,
        quarantined_blocks=report.quarantined_blocks,
        accused=report.accused,
        gb_per_s=report.gb_per_s,
        backlog_s=report.backlog_s,
    )


def _times(times: Times) -> wire.Times:
    return wire.Times(bounds_s=SECONDS_BOUNDS, counts=times.counts, sum_s=times.sum_s)
