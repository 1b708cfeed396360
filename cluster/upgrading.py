"""Two versions side by side: those that an earlier controller left, and those that follow. Pure.

A version is a configuration digest: model, number format, connector, vLLM. A router works with
workers of its own version only, so no prefill worker is ever paired with a decode worker of another
one. Routers of the old version stay until the new one has a worker of each role; until then the
last old worker of a pool stays, too, unless its place is the only one of that pool.
"""

from __future__ import annotations

from collections.abc import Iterator

from baton.messages import Role, WorkerState
from cluster.membership import Row, Table
from cluster.supervision import Start, Wanted


def outdated(table: Table, wanted: Wanted, digest: str, *, kept: bool) -> set[Start]:
    """The starts of another version that are to be drained now, one of each pool at a time.

    `kept`: routers of the old version are still needed.
    """
    found: set[Start] = set()
    for role in Role:
        ready = [row for row in _ready(table) if row.role is role]
        old = [row for row in ready if not _is_of(row, digest)]
        places = [worker_id for worker_id, home in wanted.slots() if home is role]
        # One that does not come back must not cost the others.
        whole = {row.worker_id for row in ready}.issuperset(places)
        if whole and len(old) > (kept and len(places) > 1):
            found.add((old[-1].worker_id, old[-1].incarnation))
    return found


def serves_by_the_old(table: Table, wanted: Wanted, digest: str) -> bool:
    """Whether only workers of another version can serve."""
    ready = list(_ready(table))
    roles = {home for _, home in wanted.slots()}
    new = {row.role for row in ready if _is_of(row, digest)}
    return not roles <= new and any(not _is_of(row, digest) for row in ready)


def _ready(table: Table) -> Iterator[Row]:
    return (row for row in table.rows if row.state is WorkerState.READY)


def _is_of(row: Row, digest: str) -> bool:
    return row.info is not None and row.info.config_digest == digest
