"""What the law is shown."""

from dataclasses import replace

from baton.messages import Role
from cluster.scaling.view import Signal
from tests.unit.cluster.scaling.sights import pool, sight


def test_load_is_in_busy_workers():
    assert pool(2, 1.5).load == 1.5
    assert replace(pool(), worker_tokens_per_s=Signal(0.0)).load == 0.0
    assert replace(pool(), arriving_tokens_per_s=None).load == 0.0


def test_signals_by_name():
    names = [name for name, signal in pool(attained=None).signals() if signal is None]
    assert names == ["attained"]


def test_pools_by_role():
    view = sight(pool(1), pool(3, starting=2))
    assert view.pool(Role.PREFILL).ready == 1
    assert view.pool(Role.DECODE).provisioned == 5
