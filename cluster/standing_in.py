"""Who answers while the last decode worker is drained and started anew. Pure.

Every worker can run every kind of leg; a role is only what routers send it. So before the last
ready decode worker takes nothing new, a prefill worker is lent to the decode pool, until a decode
worker has been ready for a moment. After a death nobody is lent: routers see to their requests.
"""

from __future__ import annotations

from collections.abc import Collection

from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import RoleLent, Row, Table

SEEN_AFTER_S = 5.0
"""By then every router has connected to a decode worker that is ready; until then the stand-in is
the only one that they have."""


def lendings(
    table: Table, asked: Collection[tuple[WorkerId, int]], now: float
) -> tuple[RoleLent, ...]:
    """What has to change; `asked` are the starts that are about to be drained."""
    ready = [row for row in table.rows if row.state is WorkerState.READY]
    lent = [row for row in ready if row.lent_to is not None]
    back = [now - row.since for row in ready if row.role is Role.DECODE]
    if max(back, default=0.0) >= SEEN_AFTER_S:
        return tuple(_event(row, None, now) for row in lent)
    leaving = any(_is_leaving_decode(row) for row in table.rows)
    if back or lent or not leaving:
        return ()
    able = (row for row in ready if (row.worker_id, row.incarnation) not in asked)
    return tuple(_event(row, Role.DECODE, now) for row in list(able)[:1])


def _is_leaving_decode(row: Row) -> bool:
    return row.role is Role.DECODE and row.state is WorkerState.DRAINING


def _event(row: Row, role: Role | None, now: float) -> RoleLent:
    return RoleLent(row.worker_id, row.incarnation, role, now)
