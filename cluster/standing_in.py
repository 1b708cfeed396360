"""Who works in which pool. Pure.

Every worker can run every kind of leg; a role is only what routers send it. So a worker changes its
pool without a restart: it keeps what runs and gets what is of its new role. And before the last
ready decode worker takes nothing new, a prefill worker stands in for it, until a decode worker has
been ready for a moment. After a death nobody stands in: routers see to their requests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import RoleLent, Row, Table

SEEN_AFTER_S = 5.0
"""By then every router has connected to a decode worker that is ready; until then the stand-in is
the only one that they have."""
_OWN: Mapping[WorkerId, Role] = MappingProxyType({})


def lendings(
    table: Table,
    asked: Collection[tuple[WorkerId, int]],
    now: float,
    own: Mapping[WorkerId, Role] = _OWN,
) -> tuple[RoleLent, ...]:
    """What has to change.

    `asked` are the starts that are about to be drained, `own` the roles of those who are not to
    work in the pool that they were started for.
    """
    ready = [row for row in table.rows if row.state is WorkerState.READY]
    stand_ins = _stand_ins(table, ready, asked, now, own)
    wanted = (Role.DECODE if r.worker_id in stand_ins else _role(r, own) for r in ready)
    pairs = zip(ready, wanted, strict=True)
    return tuple(_event(row, role, now) for row, role in pairs if role is not working_as(row))


def working_as(row: Row) -> Role:
    """The role that routers know it by."""
    return row.role if row.lent_to is None else row.lent_to


def _stand_ins(
    table: Table,
    ready: Collection[Row],
    asked: Collection[tuple[WorkerId, int]],
    now: float,
    own: Mapping[WorkerId, Role],
) -> set[WorkerId]:
    back = [now - row.since for row in ready if _role(row, own) is Role.DECODE]
    if max(back, default=0.0) >= SEEN_AFTER_S:
        return set()
    others = [row for row in ready if _role(row, own) is not Role.DECODE]
    standing = {row.worker_id for row in others if working_as(row) is Role.DECODE}
    leaving = any(
        row.state is WorkerState.DRAINING and _role(row, own) is Role.DECODE for row in table.rows
    )
    if back or standing or not leaving:
        return standing
    able = (row for row in others if (row.worker_id, row.incarnation) not in asked)
    return {row.worker_id for row in list(able)[:1]}


def _role(row: Row, own: Mapping[WorkerId, Role]) -> Role:
    return own.get(row.worker_id, row.role)


def _event(row: Row, role: Role, now: float) -> RoleLent:
    lent = None if role is row.role else role
    return RoleLent(row.worker_id, row.incarnation, lent, now)
