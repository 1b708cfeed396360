"""What the scaling law is shown: the table, and what every router said. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from baton.messages import Role, WorkerState
from baton.percentile import percentile
from baton.signals import PoolSignals, RouterSignals
from cluster.membership import Table
from cluster.pools import sizes
from cluster.scaling.view import PoolSight, ScalingView, Signal
from cluster.standing_in import working_as
from cluster.supervision import Wanted

_NEVER = 1e9


def view_of(
    table: Table,
    wanted: Wanted,
    signals: Sequence[RouterSignals],
    share: float,
    startup_s: float,
) -> ScalingView:
    """The cluster as `cluster.scaling.law` looks at it.

    `signals`: what all serving routers said just now; nothing unless all of them did, for of some
    of them alone it would look as if the rest of the load had gone. `share`: of requests (0 to 1)
    for which the promises are kept.
    """
    pools = {role: _pool(role, table, wanted, signals, share) for role in Role}
    sending = [one.transfer_backlog_s for one in signals]
    return ScalingView(
        pools[Role.PREFILL],
        pools[Role.DECODE],
        startup_s,
        Signal(max(sending)) if sending else None,
        sum(one.waiting for one in signals),
    )


def _pool(
    role: Role, table: Table, wanted: Wanted, signals: Sequence[RouterSignals], share: float
) -> PoolSight:
    alive = [row for row in table.rows if row.state is not WorkerState.GONE]
    ready = [r for r in alive if r.state is WorkerState.READY and working_as(r) is role]
    draining = [r for r in alive if r.state is WorkerState.DRAINING and r.role is role]
    # Whoever waits for another attempt at its start is on its way like those that start.
    starting = max(sizes(wanted)[role] - len(ready), 0)
    said = list(_of(role, signals))
    load_age_s = max((one.load_age_s for one in signals), default=0.0)
    speeds = [one.worker_tokens_per_s for one in said if one.worker_tokens_per_s > 0]
    waiting_s = sum(one.waiting_s for one in said) / max(len(ready), 1)
    return PoolSight(
        ready=len(ready),
        starting=starting,
        unplaced=sum(r.waits and r.role is role for r in alive),
        draining=len(draining),
        arriving_tokens_per_s=_signal(
            sum(one.arriving_tokens_per_s for one in said) if said else None
        ),
        worker_tokens_per_s=_signal(fmean(speeds) if speeds else None),
        backlog_s=_signal(
            waiting_s + max(one.queued_s for one in said) if said else None, load_age_s
        ),
        attained=_signal(percentile((x for one in said for x in one.attained), share)),
        predicted=_signal(_largest([one.predicted for one in said])),
        kv_used=_signal(_largest([one.kv_used for one in said]), load_age_s),
    )


def _of(role: Role, signals: Sequence[RouterSignals]) -> Iterator[PoolSignals]:
    for one in signals:
        yield one.prefill if role is Role.PREFILL else one.decode


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _signal(value: float | None, age_s: float = 0.0) -> Signal | None:
    # A prediction of never, because nobody is there to be asked, says nothing about how many; and
    # a young fit of costs may predict less than nothing.
    if value is None or not value < _NEVER:
        return None
    return Signal(max(value, 0.0), age_s)
