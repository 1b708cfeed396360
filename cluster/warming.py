"""With whom a new worker sets up connections before users come. Pure.

Of two workers the later one sees to their connection. It meets a bounded number of peers: with
every new worker meeting all, a burst of starts would cost the product of both pools.
"""

from __future__ import annotations

from collections.abc import Mapping

from baton.ids import WorkerId
from baton.messages import Role, WorkerInfo, WorkerState
from cluster.membership import Row, Table

_UP = (WorkerState.WARMING, WorkerState.READY)


def company(
    table: Table, new: Row, own: Mapping[WorkerId, Role], most: int
) -> tuple[Role, tuple[WorkerInfo, ...]]:
    """The role that a worker is to work in, and its first peers, at most `most`.

    `own` are the roles of those who are not to work in the pool that they were started for. Peers
    are of the other role and of the same version; workers that start together begin with different
    ones.
    """
    role = own.get(new.worker_id, new.role)
    peers = [
        row.info
        for row in table.rows
        if row.state in _UP
        and row.info is not None
        and own.get(row.worker_id, row.role) is not role
        and _fits(row.info, new.info)
    ]
    first = new.core_index % max(len(peers), 1)
    return role, (*peers[first:], *peers[:first])[:most]


def _fits(one: WorkerInfo, other: WorkerInfo | None) -> bool:
    return other is not None and one.config_digest == other.config_digest
